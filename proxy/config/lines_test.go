package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestLines(t *testing.T) {
	const src = `# a comment with [brackets] and "quotes
top = 1
a.b."c d" = """
[not.a.table]
also = 'not a key' \""""
[server] # [comment]
listen = "x # y"   # z

'qu.oted' = '''
x = 1'''
[[route]]
path = "/a"
limits = { max_inbox = 1, nested.deep = {
    more = 2, # TOML 1.1
} }
[[route]]
path = "/b"
[route.limits]
max_inbox = [
    1,
    { x = 1 }, [
        2 ],
]
when = 1979-05-27 07:32:00
[[route.sub]]
x = 1
[[route.sub]]
x = 2
[ upstream . "a\u0062" ]
urls = []
`
	got, _, _ := scanLines(src)
	for path, want := range map[string]int{
		"top":                                2,
		"a":                                  3,
		"a.b":                                3,
		`a.b."c d"`:                          3,
		"server":                             6,
		"server.listen":                      7,
		`server."qu.oted"`:                   9,
		"route":                              11,
		"route[0]":                           11,
		"route[0].path":                      12,
		"route[0].limits":                    13,
		"route[0].limits.max_inbox":          13,
		"route[0].limits.nested.deep":        13,
		"route[0].limits.nested.deep.more":   14,
		"route[1]":                           16,
		"route[1].path":                      17,
		"route[1].limits":                    18,
		"route[1].limits.max_inbox":          19,
		"route[1].limits.max_inbox[0]":       20,
		"route[1].limits.max_inbox[1].x":     21,
		"route[1].limits.max_inbox[2]":       21,
		"route[1].limits.max_inbox[2][0]":    22,
		"route[1].limits.when":               24,
		"route[1].sub[0].x":                  26,
		"route[1].sub[1].x":                  28,
		"upstream.ab":                        29,
		"upstream.ab.urls":                   30,
		"upstream.ab.urls[7].is.not.there":   30, // the nearest parent
		"nothing.of.it":                      1,
		"route[0].limits.nested.deep.absent": 13,
	} {
		if n := got.of(path); n != want {
			t.Errorf("%s: line %d, want %d", path, n, want)
		}
	}
}

// Whatever the library accepts, the scanner knows the line of each of its keys.
func FuzzLines(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.toml")
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(src))
	}
	f.Add("a = \"\"\"x\"\"\"\"\"\nb = '''y'''''\n\"\\\"\" = {}\n")
	f.Add("[[a]]\n[[a.b]]\n[a.b.c]\nd = [[{e = [1]}], []]\n")
	f.Add("\ufeffx = 1")
	f.Add("\xfe\xffx = 1")
	f.Fuzz(func(t *testing.T, src string) {
		src = unmarked(src)
		found, long, _ := scanLines(src) // ends on anything
		var m map[string]any
		if _, err := toml.Decode(src, &m); err != nil || long != "" {
			return
		}
		last := 1 + strings.Count(src, "\n")
		eachPath("", m, func(path string) {
			if n, ok := found[path]; !ok || n < 1 || n > last {
				t.Errorf("%s: line %d of %d, %t\n%s", path, n, last, ok, src)
			}
		})
	})
}

// eachPath yields the path of every key and array element of v.
func eachPath(path string, v any, yield func(string)) {
	if path != "" {
		yield(path)
	}
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			eachPath(join(path, k), e, yield)
		}
	case []map[string]any:
		for i, e := range v {
			eachPath(index(path, i), e, yield)
		}
	case []any:
		for i, e := range v {
			eachPath(index(path, i), e, yield)
		}
	}
}
