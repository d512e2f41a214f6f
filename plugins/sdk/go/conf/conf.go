// Package conf reads a policy's settings strictly: every key has to be asked
// for, every value to be of its type, and every problem is reported at once.
//
// It has a small JSON parser of its own, because encoding/json and its
// reflection would double the size and the start time of a guest.
package conf

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// Table is one table of settings. Its getters return the default and note a
// problem when the value is of the wrong type; an absent table answers only
// defaults.
type Table struct {
	path   string // with a trailing dot, "" at the top
	v      *value
	doc    *document
	absent []string // keys that were looked for in vain
}

// document collects what the tables of one configuration find.
type document struct {
	problems []string
	tables   []*Table
}

// Read parses the settings; what is malformed is reported by Err.
func Read(json []byte) *Table {
	d := &document{}
	v, err := parse(json)
	switch {
	case err != nil:
		d.problems = append(d.problems, "config: "+err.Error())
		v = value{}
	case v.kind != isTable:
		d.problems = append(d.problems, "config: wanted a table, have "+string(v.kind))
		v = value{}
	}
	return d.table("", &v)
}

func (d *document) table(path string, v *value) *Table {
	t := &Table{path: path, v: v, doc: d}
	d.tables = append(d.tables, t)
	return t
}

// Err returns every problem of the whole configuration in one error, unknown
// keys included, or nil. Ask for every key first.
func (t *Table) Err() error {
	problems := t.doc.problems
	for _, t := range t.doc.tables {
		told := false
		for i := range t.v.members {
			m := &t.v.members[i]
			if m.read {
				continue
			}
			problem := t.path + m.key + ": unknown key"
			if !told { // once for each table
				problem += " (known here: " + strings.Join(t.known(), ", ") + ")"
				told = true
			}
			problems = append(problems, problem)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "; "))
}

// known lists the keys that were asked for, sorted.
func (t *Table) known() []string {
	known := slices.Clone(t.absent)
	for i := range t.v.members {
		if m := &t.v.members[i]; m.read {
			known = append(known, m.key)
		}
	}
	slices.Sort(known)
	return known
}

// Fail notes a problem with the value of key.
func (t *Table) Fail(key, problem string) {
	t.doc.problems = append(t.doc.problems, t.path+key+": "+problem)
}

// Has tells whether key is set. It does not count as asking for it.
func (t *Table) Has(key string) bool { return t.find(key) != nil }

// Keys lists the keys of a table whose keys are the operator's own, in order.
func (t *Table) Keys() (keys []string) {
	for i := range t.v.members {
		keys = append(keys, t.v.members[i].key)
	}
	return keys
}

func (t *Table) find(key string) *member {
	if i, ok := t.v.index[key]; ok {
		return &t.v.members[i]
	}
	if !slices.Contains(t.absent, key) {
		t.absent = append(t.absent, key)
	}
	return nil
}

// get returns the value of key if it is set, marking it as asked for.
func (t *Table) get(key string) *value {
	m := t.find(key)
	if m == nil {
		return nil
	}
	m.read = true
	return &m.value
}

// typed is get for values of one kind.
func (t *Table) typed(key string, want kind) *value {
	v := t.get(key)
	if v != nil && v.kind != want {
		t.wanted(key, string(want), v)
		return nil
	}
	return v
}

func (t *Table) wanted(key, want string, have *value) {
	t.Fail(key, "wanted "+want+", have "+string(have.kind))
}

// String returns a string.
func (t *Table) String(key, def string) string {
	if v := t.typed(key, isString); v != nil {
		return v.text
	}
	return def
}

// OneOf returns one of the allowed strings, of which the first is the default.
func (t *Table) OneOf(key string, allowed ...string) string {
	v := t.typed(key, isString)
	if v == nil {
		return allowed[0]
	}
	for _, a := range allowed {
		if v.text == a {
			return a
		}
	}
	t.Fail(key, strconv.Quote(v.text)+" is not one of "+strings.Join(allowed, ", "))
	return allowed[0]
}

// IsString tells whether key is set to a string, for keys of several types.
func (t *Table) IsString(key string) bool {
	m := t.find(key)
	return m != nil && m.value.kind == isString
}

// IsTable tells whether key is set to a table, for keys of several types.
func (t *Table) IsTable(key string) bool {
	m := t.find(key)
	return m != nil && m.value.kind == isTable
}

// Bool returns a boolean.
func (t *Table) Bool(key string, def bool) bool {
	if v := t.typed(key, isBool); v != nil {
		return v.truth
	}
	return def
}

// Int returns a whole number from low to high.
func (t *Table) Int(key string, def, low, high int64) int64 {
	v := t.typed(key, isNumber)
	if v == nil {
		return def
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	if err != nil || n < low || n > high {
		t.Fail(key, v.text+" is not a whole number from "+strconv.FormatInt(low, 10)+" to "+strconv.FormatInt(high, 10))
		return def
	}
	return n
}

// Strings returns a list of strings; a single string is a list of one. Numbers
// in the list are taken as written, so that 502 and "502" are the same.
func (t *Table) Strings(key string, def ...string) []string {
	v := t.get(key)
	if v == nil {
		return def
	}
	switch v.kind {
	case isString:
		return []string{v.text}
	case isList:
		list := make([]string, 0, len(v.list))
		for i := range v.list {
			e := &v.list[i]
			if e.kind != isString && e.kind != isNumber {
				t.wanted(index(key, i), string(isString), e)
			}
			list = append(list, e.text)
		}
		return list
	}
	t.wanted(key, "a string or a list of strings", v)
	return def
}

// Table returns the table under key; an absent one when it is not set.
func (t *Table) Table(key string) *Table {
	v := t.typed(key, isTable)
	if v == nil {
		v = &value{}
	}
	return t.doc.table(t.path+key+".", v)
}

// Tables returns the list of tables under key.
func (t *Table) Tables(key string) (tables []*Table) {
	v := t.typed(key, isList)
	if v == nil {
		return nil
	}
	for i := range v.list {
		if e := &v.list[i]; e.kind != isTable {
			t.wanted(index(key, i), string(isTable), e)
		} else {
			tables = append(tables, t.doc.table(t.path+index(key, i)+".", e))
		}
	}
	return tables
}

func index(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
