package semver

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	masterminds "github.com/Masterminds/semver/v3"
)

func TestRangesAgreeWithNPM(t *testing.T) {
	b, err := os.ReadFile("testdata/npm.json")
	if err != nil {
		t.Fatal(err)
	}
	var npm struct {
		Versions, Valid []string
		Ranges          []struct {
			Range string
			In    []string
		}
	}
	if err := json.Unmarshal(b, &npm); err != nil {
		t.Fatal(err)
	}
	for _, s := range npm.Versions {
		v, ok := Parse(s)
		if ok != slices.Contains(npm.Valid, s) {
			t.Errorf("%q: valid %t", s, ok)
		}
		if !ok {
			continue
		}
		for _, want := range npm.Ranges {
			r, err := ParseRange(want.Range)
			if err != nil {
				t.Fatal(err)
			}
			if in := r.Contains(v); in != slices.Contains(want.In, s) {
				t.Errorf("%q in %q: %t", s, want.Range, in)
			}
		}
	}
}

// TestMastermindsDiffers keeps the reason why this package exists true.
func TestMastermindsDiffers(t *testing.T) {
	c, err := masterminds.NewConstraint(">=5.0.0-beta.15")
	if err != nil {
		t.Fatal(err)
	}
	if !c.Check(masterminds.MustParse("5.0.1-beta.1")) {
		t.Error("Masterminds/semver now agrees with npm: reconsider it")
	}
}

func TestVersionsAreOrdered(t *testing.T) {
	// semver.org §11.4, ascending.
	list := []string{"1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.10.0", "2.0.0"}
	for i, a := range list {
		for j, b := range list {
			v, _ := Parse(a)
			w, _ := Parse(b)
			if got, want := v.Compare(w), min(max(i-j, -1), 1); got != want {
				t.Errorf("%s against %s: %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestRangesThatAreNotUnderstoodAreRefused(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if _, err := ParseRange(s); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", s, err, want)
		}
	}
	f("^1.2.3", `"^1.2.3" is not a comparator such as >=4.6.0 or <5.0.0-0`)
	f(">=1.2", `">=1.2" is not a comparator such as >=4.6.0 or <5.0.0-0`)
	f("1.2.3 - 2.0.0", `"-" is not a comparator such as >=4.6.0 or <5.0.0-0`)
	f("==1.2.3", `"==1.2.3" is not a comparator such as >=4.6.0 or <5.0.0-0`)
	f(">=", `">=" is not a comparator such as >=4.6.0 or <5.0.0-0`)
	f("", `"" has an alternative without a comparator`)
	f("1.2.3 ||", `"1.2.3 ||" has an alternative without a comparator`)
}

// FuzzVersion holds Parse and Compare to be an order, and ranges to agree.
func FuzzVersion(f *testing.F) {
	f.Add("1.2.3-alpha.2", "1.2.3-alpha.10")
	f.Add("v1.0.0+b", "1.0.0-0")
	f.Add("1.0.0-a.b.c", "1.0.0-a.b")
	f.Fuzz(func(t *testing.T, a, b string) {
		v, ok1 := Parse(a)
		w, ok2 := Parse(b)
		if !ok1 || !ok2 {
			return
		}
		if n := v.Compare(w); n != -w.Compare(v) || v.Compare(v) != 0 {
			t.Fatalf("%q, %q: %d", a, b, n)
		}
		exact := Range{{{"=", v}}}
		if !exact.Contains(v) || exact.Contains(w) != (v.Compare(w) == 0) {
			t.Fatalf("%q, %q: = disagrees", a, b)
		}
	})
}

// FuzzRange holds a range to be the union of its alternatives, and each of them
// to be the intersection of its comparators among releases.
func FuzzRange(f *testing.F) {
	f.Add(">=4.6.0 <5.0.0-0 || =1.2.3", "4.7.1")
	f.Add(">= 1.2.3-rc.1", "1.2.3-rc.2")
	f.Fuzz(func(t *testing.T, text, version string) {
		r, err := ParseRange(text)
		v, ok := Parse(version)
		if err != nil || !ok {
			return
		}
		union := false
		for alternative := range strings.SplitSeq(text, "||") {
			one, err := ParseRange(alternative)
			if err != nil || len(one) != 1 {
				t.Fatalf("%q of %q: %v, %v", alternative, text, one, err)
			}
			union = union || one.Contains(v)
			all := true
			for _, c := range one[0] {
				all = all && Range{{c}}.Contains(v)
			}
			if in := one.Contains(v); in != all && (v.pre == "" || all) {
				t.Errorf("%q in %q: %v, its comparators say %v", version, alternative, in, all)
			}
		}
		if r.Contains(v) != union {
			t.Errorf("%q in %q: %v, its alternatives say %v", version, text, !union, union)
		}
	})
}
