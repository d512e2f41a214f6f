package config

import (
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// lines maps the path of every key, table and array element of a document to
// the line on which it stands, from 1. The TOML library keeps positions to
// itself, and only one per key however many [[route]] tables there are.
type lines map[string]int

// of returns the line of path, or of the nearest of its parents that stands in
// the file, or 1.
func (l lines) of(path string) int {
	for path != "" {
		if n, ok := l[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 1
}

// join appends a key to a path, quoted when it is not a bare key.
func join(path, key string) string {
	if !bare(key) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// index appends the position in an array, from 0, to a path.
func index(path string, i int) string {
	return path + "[" + strconv.Itoa(i) + "]"
}

func bare(key string) bool {
	for i := range len(key) {
		if !bareByte(key[i]) {
			return false
		}
	}
	return key != ""
}

func bareByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// What is made of a document grows with the square of how long and how deep its keys
// are, and for each key the TOML library goes through all tables on the way to it.
const (
	maxPath   = 512 // bytes of the path of a key
	maxLevels = 16  // of tables and arrays that it is in, and itself; Weir's own are 5 deep at most
)

// levels returns how deep path is.
func levels(path string) int {
	n, quoted := 1, false
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '.' || c == '['):
			n++
		}
	}
	return n
}

// unmarked is src without the byte order marks in front of it. The TOML library passes
// over one, also over one of UTF-16 that stands before UTF-8.
func unmarked(src string) string {
	for _, mark := range [...]string{"\ufeff", "\xff\xfe", "\xfe\xff"} {
		if rest, ok := strings.CutPrefix(src, mark); ok {
			return unmarked(rest)
		}
	}
	return src
}

// scanLines walks a document that the TOML library accepts. On any other it ends
// early, with the lines found so far. It ends, too, at a path that is above maxPath
// or maxLevels, which it returns with its line.
func scanLines(src string) (found lines, long string, at int) {
	s := scanner{src: src, line: 1, lines: lines{}, tables: map[string]int{}}
	s.document()
	return s.lines, s.long, s.longAt
}

// scanner reads just enough TOML to know which key stands where.
type scanner struct {
	src    string
	pos    int
	line   int
	lines  lines
	tables map[string]int // tables so far in the array of tables at a path
	long   string         // a path that is too long or too deep, which ends it
	longAt int            // its line
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

func (s *scanner) advance(n int) {
	end := min(s.pos+n, len(s.src))
	s.line += strings.Count(s.src[s.pos:end], "\n")
	s.pos = end
}

// take steps over c if it is next.
func (s *scanner) take(c byte) bool {
	if s.pos < len(s.src) && s.src[s.pos] == c {
		s.advance(1)
		return true
	}
	return false
}

// blank steps over spaces, line ends and comments.
func (s *scanner) blank() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.advance(1)
		case '#':
			s.until("\n")
		default:
			return
		}
	}
}

// until steps to the next byte of set, or to the end.
func (s *scanner) until(set string) {
	if i := strings.IndexAny(s.src[s.pos:], set); i >= 0 {
		s.advance(i)
	} else {
		s.advance(len(s.src))
	}
}

// mark notes the line of a path; false: it is too long or too deep.
func (s *scanner) mark(path string, line int) bool {
	if len(path) > maxPath || levels(path) > maxLevels {
		s.long, s.longAt = path, line
		return false
	}
	if _, ok := s.lines[path]; !ok {
		s.lines[path] = line
	}
	return true
}

func (s *scanner) document() {
	table := ""
	for {
		s.blank()
		if s.pos == len(s.src) {
			return
		}
		ok := false
		if s.peek() == '[' {
			table, ok = s.header()
		} else {
			ok = s.pair(table)
		}
		if !ok {
			return
		}
	}
}

// header reads [a.b] or [[a.b]] and returns the path of the table it opens.
func (s *scanner) header() (path string, ok bool) {
	line := s.line
	s.take('[')
	array := s.take('[')
	for {
		key, ok := s.key()
		if !ok {
			return "", false
		}
		path = join(path, key)
		s.blank()
		if !s.take('.') {
			break
		}
		if !s.mark(path, line) {
			return "", false
		}
		path = s.current(path)
	}
	ok = s.mark(path, line)
	if array {
		s.tables[path]++
		path = s.current(path)
		ok = s.mark(path, line) && s.take(']') && ok
	} else {
		path = s.current(path)
	}
	return path, ok && s.take(']')
}

// current is the newest table of path if that is an array of tables.
func (s *scanner) current(path string) string {
	if n := s.tables[path]; n > 0 {
		return index(path, n-1)
	}
	return path
}

// pair reads key = value inside the table at path.
func (s *scanner) pair(path string) bool {
	line := s.line
	for {
		key, ok := s.key()
		if !ok {
			return false
		}
		path = join(path, key)
		if !s.mark(path, line) {
			return false
		}
		s.blank()
		if !s.take('.') {
			break
		}
	}
	return s.take('=') && s.value(path)
}

// key reads one part of a dotted key.
func (s *scanner) key() (string, bool) {
	s.blank()
	start := s.pos
	switch s.peek() {
	case '"', '\'':
		if !s.text() {
			return "", false
		}
		return unquote(s.src[start:s.pos])
	}
	for bareByte(s.peek()) {
		s.advance(1)
	}
	return s.src[start:s.pos], s.pos > start
}

// value steps over a value and marks the elements and keys inside it.
func (s *scanner) value(path string) bool {
	s.blank()
	switch s.peek() {
	case '"', '\'':
		return s.text()
	case '[':
		s.advance(1)
		for i := 0; ; i++ {
			if s.blank(); s.take(']') {
				return true
			}
			if at := index(path, i); !s.mark(at, s.line) || !s.value(at) {
				return false
			}
			s.blank()
			if !s.take(',') {
				return s.take(']')
			}
		}
	case '{':
		s.advance(1)
		for {
			if s.blank(); s.take('}') {
				return true
			}
			if !s.pair(path) {
				return false
			}
			s.blank()
			if !s.take(',') {
				return s.take('}')
			}
		}
	}
	start := s.pos
	s.until(",]}#\r\n")
	return s.pos > start
}

// text steps over a string of any of TOML's four kinds.
func (s *scanner) text() bool {
	quote := s.src[s.pos : s.pos+1]
	if long := strings.Repeat(quote, 3); strings.HasPrefix(s.src[s.pos:], long) {
		s.advance(3)
		if !s.closing(long) {
			return false
		}
		// Up to two quotes may stand directly before the closing three.
		for range 2 {
			s.take(quote[0])
		}
		return true
	}
	s.advance(1)
	return s.closing(quote)
}

// closing steps behind the next delimiter that is not escaped.
func (s *scanner) closing(delimiter string) bool {
	for s.pos < len(s.src) {
		if strings.HasPrefix(s.src[s.pos:], delimiter) {
			s.advance(len(delimiter))
			return true
		}
		if delimiter[0] == '"' && s.src[s.pos] == '\\' {
			s.advance(1)
		}
		s.advance(1)
	}
	return false
}

// unquote returns what a quoted key says, as the TOML library reads it.
func unquote(quoted string) (string, bool) {
	if quoted[0] == '\'' || !strings.Contains(quoted, `\`) {
		return quoted[1 : len(quoted)-1], true
	}
	var doc struct{ Key string }
	_, err := toml.Decode("Key = "+quoted, &doc)
	return doc.Key, err == nil
}
