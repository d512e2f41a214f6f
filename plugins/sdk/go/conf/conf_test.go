package conf

import (
	"bytes"
	"encoding/json"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestGettersReadWhatIsSet(t *testing.T) {
	c := Read([]byte(`{"s":"a","b":true,"i":-3,"l":["x",502],"one":"y","size":"64KiB","bytes":7,
		"d":"1m30s","t":{"k":{"s":"deep"}},"ts":[{"s":"0"},{"s":"1"}],"e":"json"}`))
	f := func(got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	f(c.String("s", "def"), "a")
	f(c.Bool("b", false), true)
	f(c.Int("i", 0, -3, 3), int64(-3))
	f(c.Strings("l"), []string{"x", "502"})
	f(c.Strings("one"), []string{"y"})
	f(c.Size("size", 0), uint64(65536))
	f(c.Size("bytes", 0), uint64(7))
	f(c.Duration("d", 0), uint32(90_000))
	f(c.Table("t").Table("k").String("s", ""), "deep")
	f(c.Table("t").Keys(), []string{"k"})
	f(c.Tables("ts")[1].String("s", ""), "1")
	c.Tables("ts")[0].String("s", "")
	f(c.OneOf("e", "problem+json", "json"), "json")
	f([]bool{c.Has("s"), c.Has("no"), c.IsString("s"), c.IsString("b"), c.IsTable("t"), c.IsTable("s")}, []bool{true, false, true, false, true, false})
	// Defaults of what is not set.
	f(c.String("no", "def"), "def")
	f(c.Strings("no", "a", "b"), []string{"a", "b"})
	f(c.Size("no", 9), uint64(9))
	f(c.Table("no").Table("nor").Int("this", 4, 0, 9), int64(4))
	f(c.OneOf("no", "first", "second"), "first")
}

func TestEveryProblemIsReportedOnce(t *testing.T) {
	f := func(config string, read func(*Table), want ...string) {
		t.Helper()
		c := Read([]byte(config))
		if read != nil {
			read(c)
		}
		var got []string
		if err := c.Err(); err != nil {
			got = strings.Split(err.Error(), "; ")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", config, got, want)
		}
	}
	f(`{}`, nil)
	f(``, nil, "config: byte 0: a JSON value is wanted here")
	f(`[]`, nil, "config: wanted a table, have a list")
	f(`{"a":1}{`, nil, "config: byte 7: nothing may follow the value")
	f(`{"a":1,"a":2}`, nil, `config: byte 10: key "a" stands here twice`)
	f(`{"a":"\ud800"}`, nil, "config: byte 12: an escape that JSON does not know")
	f(strings.Repeat("[", 40), nil, "config: byte 33: nested more than 32 deep")
	f(`{"a":1,"b":{"c":2,"d":3}}`, func(c *Table) { c.Table("b").Int("d", 0, 0, 9) }, "a: unknown key (known here: b)", "b.c: unknown key (known here: d)")
	f(`{"a":1,"b":2,"c":3}`, func(c *Table) { c.Int("a", 0, 0, 9); c.Int("a", 0, 0, 9); c.Has("x"); c.Table("d") }, "b: unknown key (known here: a, d, x)", "c: unknown key")
	f(`{"a":1}`, func(c *Table) { c.String("a", "") }, "a: wanted a string, have a number")
	f(`{"a":null}`, func(c *Table) { c.Bool("a", false) }, "a: wanted a boolean, have null")
	f(`{"a":10}`, func(c *Table) { c.Int("a", 0, 1, 9) }, "a: 10 is not a whole number from 1 to 9")
	f(`{"a":1.5}`, func(c *Table) { c.Int("a", 0, 1, 9) }, "a: 1.5 is not a whole number from 1 to 9")
	f(`{"a":["x",true]}`, func(c *Table) { c.Strings("a") }, "a[1]: wanted a string, have a boolean")
	f(`{"a":true}`, func(c *Table) { c.Strings("a") }, "a: wanted a string or a list of strings, have a boolean")
	f(`{"a":[1]}`, func(c *Table) { c.Tables("a") }, "a[0]: wanted a table, have a number")
	f(`{"a":[{"b":1}]}`, func(c *Table) { c.Tables("a")[0].String("b", "") }, "a[0].b: wanted a string, have a number")
	f(`{"a":"x"}`, func(c *Table) { c.OneOf("a", "y", "z") }, `a: "x" is not one of y, z`)
	for _, s := range []string{`"0"`, `0`, `-1`, `1.5`, `"1.5MiB"`, `"16 MiB"`, `"16mib"`, `"MiB"`, `"9999999TiB"`, `"1MiB1"`} {
		f(`{"a":`+s+`}`, func(c *Table) { c.Size("a", 0) }, `a: "`+strings.Trim(s, `"`)+`" is not a size such as "64KiB", or a number of bytes`)
	}
	for _, s := range []string{"0s", "1", "1d", "-1s", "1.5s", "s", "50000h", "1s2"} {
		f(`{"a":"`+s+`"}`, func(c *Table) { c.Duration("a", 0) }, `a: "`+s+`" is not a duration such as "500ms", "1s" or "1m30s"`)
	}
	f(`{"a":""}`, func(c *Table) { c.Duration("a", 0) }, `a: wanted a duration such as "500ms", "1s" or "1m30s", have a string`)
}

// plain is v as encoding/json would have it.
func plain(v value) any {
	switch v.kind {
	case isBool:
		return v.truth
	case isNumber:
		return json.Number(v.text)
	case isString:
		return v.text
	case isList:
		list := []any{}
		for _, e := range v.list {
			list = append(list, plain(e))
		}
		return list
	case isTable:
		m := map[string]any{}
		for _, e := range v.members {
			m[e.key] = plain(e.value)
		}
		return m
	}
	return nil
}

// FuzzParse holds the parser against encoding/json: what it accepts is read
// alike; what it refuses is not JSON, or is what the package refuses beyond it.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-0.5e+3,true,false,null,"\u00e4\ud83d\ude00\n\/"]}`, ` [ ] `, `{"a":1,"a":2}`, `01`, `"\ud800"`,
		`[1,]`, `{"a" 1}`, "\"\x01\"", "\"\xff\"", `-`, `1.`, `1e`, strings.Repeat("[", 34) + strings.Repeat("]", 34),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parse(b)
		if err == nil {
			var want any
			d := json.NewDecoder(bytes.NewReader(b))
			d.UseNumber()
			if e := d.Decode(&want); e != nil || d.More() {
				t.Fatalf("%q is accepted, encoding/json: %v", b, e)
			}
			if got := plain(v); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q is %v, want %v", b, got, want)
			}
			return
		}
		m := err.Error()
		if json.Valid(b) && utf8.Valid(b) && !strings.Contains(m, "twice") && !strings.Contains(m, "deep") && !bytes.Contains(b, []byte(`\u`)) {
			t.Fatalf("%q is refused: %v", b, err)
		}
	})
}

// FuzzQuantities holds sizes and durations against a slow reading of them.
func FuzzQuantities(f *testing.F) {
	for _, s := range []string{"64KiB", "1m30s", "0", "18446744073709551615B", "16777216TiB", "1193h", "500ms", "9kb", "s", "-1s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := json.Marshal(map[string]string{"a": s})
		if err != nil || !utf8.ValidString(s) {
			return
		}
		table := Read(text)
		n := table.Size("a", 7)
		if err := table.Err(); err == nil {
			digits := strings.TrimRight(s, "BKMGTik")
			scale, known := map[string]int64{
				"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
				"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
			}[s[len(digits):]]
			want, ok := new(big.Int).SetString(digits, 10)
			if !ok || !known || want.Mul(want, big.NewInt(scale)).Cmp(new(big.Int).SetUint64(n)) != 0 || n == 0 {
				t.Errorf("%q is %d bytes", s, n)
			}
		} else if n != 7 {
			t.Errorf("%q is refused and %d: %v", s, n, err)
		}
		table = Read(text)
		ms := table.Duration("a", 7)
		if err := table.Err(); err == nil {
			if want, err := time.ParseDuration(s); err != nil || want != time.Duration(ms)*time.Millisecond || ms == 0 {
				t.Errorf("%q is %d ms, for Go %v, %v", s, ms, want, err)
			}
		} else if ms != 7 {
			t.Errorf("%q is refused and %d ms: %v", s, ms, err)
		}
	})
}
