package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of what is told of a document: it goes into one line of the log.
const (
	maxProblems = 100
	maxMessage  = 1 << 10 // bytes of one
)

// decoder collects what is wrong with one document.
type decoder struct {
	file  string
	lines lines
	errs  Errors // maxProblems at most
	more  bool   // there are others
}

// fail reports a problem with the key at path.
func (d *decoder) fail(path, format string, args ...any) {
	d.unread(path, fmt.Sprintf(format, args...), nil)
}

// unread reports that the file that the key at path names cannot be read, and why.
func (d *decoder) unread(path, message string, cause error) {
	if len(d.errs) == maxProblems {
		d.more = true
		return
	}
	d.errs = append(d.errs, Error{File: d.file, Line: d.lines.of(path), Key: path, Message: clip(message, maxMessage), cause: cause})
}

// problems returns what was found, in the order of the file, and says so when that
// is not all.
func (d *decoder) problems() Errors {
	if d.more {
		d.errs = append(d.errs, Error{File: d.file, Message: fmt.Sprintf("there are more problems, only %d are told", maxProblems)})
	}
	d.errs.sort()
	return d.errs
}

// clip cuts s to at most n bytes, and says that it did.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// failed tells whether a problem with the key at path was reported, so that
// what follows from it is not.
func (d *decoder) failed(path string) bool {
	return slices.ContainsFunc(d.errs, func(e Error) bool { return e.Key == path })
}

// table is one TOML table: it hands out values by key, remembers which keys
// were asked for, and in the end reports the others as unknown.
type table struct {
	*decoder
	path  string
	m     map[string]any
	asked []string
}

func (d *decoder) table(path string, m map[string]any) *table {
	return &table{decoder: d, path: path, m: m}
}

// at returns the full path of a key of this table.
func (t *table) at(key string) string { return join(t.path, key) }

// get returns the value of key, nil when it is absent.
func (t *table) get(key string) any {
	t.asked = append(t.asked, key)
	return t.m[key]
}

// has tells whether key is there, without asking for it.
func (t *table) has(key string) bool { _, ok := t.m[key]; return ok }

// want reports a value of the wrong type. It names the type only: the value
// may be a secret.
func (t *table) want(path, wanted string, got any) {
	t.fail(path, "wanted %s, got %s", wanted, typeName(got))
}

// text reads a string. check returns what is to be kept of it, or what is
// wrong with it; nil keeps everything but the empty string.
func (t *table) text(key string, dst *string, check func(string) (string, error)) {
	v := t.get(key)
	if v == nil {
		return
	}
	s, ok := v.(string)
	if !ok {
		t.want(t.at(key), "a string", v)
		return
	}
	if check == nil {
		check = notEmpty
	}
	if s, err := check(s); err != nil {
		t.fail(t.at(key), "%v", err)
	} else {
		*dst = s
	}
}

// texts reads an array of strings, each through check with its position. The
// remedy is for an empty one.
func (t *table) texts(key, remedy string, check func(path, s string) error) {
	v := t.get(key)
	if v == nil {
		return
	}
	list, ok := v.([]any)
	if !ok {
		t.want(t.at(key), "an array of strings", v)
		return
	}
	if len(list) == 0 {
		t.fail(t.at(key), "is empty; %s", remedy)
	}
	for i, v := range list {
		path := index(t.at(key), i)
		if s, ok := v.(string); !ok {
			t.want(path, "a string", v)
		} else if err := check(path, s); err != nil {
			t.fail(path, "%v", err)
		}
	}
}

const nameOrLeaveOut = "name at least one, or leave the key out"

// sub reads a table; ok is false when it is absent or something else.
func (t *table) sub(key string) (sub *table, ok bool) {
	v := t.get(key)
	if v == nil {
		return nil, false
	}
	m, ok := v.(map[string]any)
	if !ok {
		t.want(t.at(key), "a table", v)
		return nil, false
	}
	return t.table(t.at(key), m), true
}

// subs reads an array of tables.
func (t *table) subs(key string) (subs []*table) {
	wanted := fmt.Sprintf("an array of tables, written [[%s]]", t.at(key))
	switch v := t.get(key).(type) {
	case nil:
	case []map[string]any:
		for i, m := range v {
			subs = append(subs, t.table(index(t.at(key), i), m))
		}
	case []any: // written inline
		for i, e := range v {
			path := index(t.at(key), i)
			if m, ok := e.(map[string]any); ok {
				subs = append(subs, t.table(path, m))
			} else {
				t.want(path, "a table", e)
			}
		}
	default:
		t.want(t.at(key), wanted, v)
	}
	return subs
}

// named reads a table whose keys are names chosen by the operator, and yields
// the table of each in the order of the names.
func (t *table) named(key string, yield func(name string, sub *table)) {
	all, ok := t.sub(key)
	if !ok {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(all.m)) {
		if err := checkName(name); err != nil {
			t.fail(all.at(name), "%v", err)
		}
		if m, ok := all.m[name].(map[string]any); ok {
			yield(name, t.table(all.at(name), m))
		} else {
			t.want(all.at(name), fmt.Sprintf("a table, written [%s]", all.at(name)), all.m[name])
		}
	}
}

// done reports the keys that nobody asked for.
func (t *table) done() {
	for _, key := range slices.Sorted(maps.Keys(t.m)) {
		if slices.Contains(t.asked, key) {
			continue
		}
		if near := nearest(key, t.asked); near != "" {
			t.fail(t.at(key), "unknown key; did you mean %s?", near)
		} else {
			t.fail(t.at(key), "unknown key; known here: %s", strings.Join(t.asked, ", "))
		}
	}
}

// typeName says in TOML's words what v is.
func typeName(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	case []map[string]any:
		return "an array of tables"
	default:
		return "an array"
	}
}

// nearest returns the one of known that key is a slip of, or "".
func nearest(key string, known []string) string {
	best, most := "", len(key)/3+1
	for _, k := range known {
		if d := edits(strings.ToLower(key), k); d < most {
			best, most = k, d
		}
	}
	return best
}

// edits is the Levenshtein distance of a and b in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
