package main

import (
	"slices"
	"strings"

	"weir/hostabi"
	"weir/plugins/sdk/go"
	"weir/plugins/sdk/go/conf"
)

// admission is a list of rules of which the first that matches decides.
type admission struct {
	rules   []admitRule
	deny    bool   // when no rule matches
	message string // of that
	set     bool   // there is something to decide
}

// admitRule looks at one header or query parameter.
type admitRule struct {
	deny    bool
	message string
	header  string // lower case; empty: query
	query   string
	test    string   // "present", "absent", "equals" or "prefix"
	values  []string // of which one has to match
}

func (d *admission) read(c *conf.Table, shape *sdk.Shape) {
	t := c.Table("admit")
	d.deny = t.OneOf("default", "allow", "deny") == "deny"
	if d.message = t.String("message", ""); d.message != "" && !d.deny {
		t.Fail("message", `is shown only with default = "deny"; a rule has its own`)
	}
	for _, rule := range t.Tables("rules") {
		r := readRule(rule)
		d.rules = append(d.rules, r)
		if r.header != "" && !slices.Contains(shape.AdmitHeaders, r.header) {
			shape.AdmitHeaders = append(shape.AdmitHeaders, r.header)
		}
	}
	if d.set = len(d.rules) > 0 || d.deny; !d.set {
		shape.Constant = append(shape.Constant, hostabi.Admit)
	}
}

func readRule(t *conf.Table) (r admitRule) {
	r.deny = t.Bool("deny", false)
	if allow := t.Bool("allow", false); allow == r.deny {
		t.Fail("deny", "a rule needs deny = true or allow = true, and not both")
	}
	r.message = t.String("message", "")
	if r.message != "" && !r.deny {
		t.Fail("message", "only a rule that denies has a message")
	}
	r.header = strings.ToLower(t.String("header", ""))
	r.query = t.String("query", "")
	if (r.header == "") == (r.query == "") {
		t.Fail("header", "a rule needs a header or a query, and not both")
	}
	r.test = "present"
	tests := 0
	if t.Bool("absent", false) {
		r.test = "absent"
		tests++
	}
	for _, test := range []struct{ key, name string }{{"equals", "equals"}, {"one_of", "equals"}, {"prefix", "prefix"}} {
		switch {
		case !t.Has(test.key):
			continue
		case test.key == "one_of":
			if r.values = t.Strings(test.key); r.values != nil && len(r.values) == 0 {
				t.Fail(test.key, "is empty, which nothing would match")
			}
		default:
			r.values = []string{t.String(test.key, "")}
		}
		r.test = test.name
		tests++
	}
	if tests > 1 {
		t.Fail(r.test, "a rule has at most one of absent, equals, one_of and prefix")
	}
	return r
}

func (d *admission) admit(in *sdk.AdmitInput) (sdk.AdmitOutput, sdk.Answer) {
	if !d.set {
		return sdk.AdmitOutput{}, sdk.NoOpinion
	}
	deny, message := d.deny, d.message
	for i := range d.rules {
		if r := &d.rules[i]; r.matches(in) {
			deny, message = r.deny, r.message
			break
		}
	}
	if !deny {
		return sdk.AdmitOutput{}, sdk.Once
	}
	return sdk.AdmitOutput{Deny: true, Code: hostabi.NotAdmitted, Message: message}, sdk.Once
}

func (r *admitRule) matches(in *sdk.AdmitInput) bool {
	found := false
	check := func(value string) bool {
		found = true
		switch r.test {
		case "present":
			return true
		case "equals":
			return slices.Contains(r.values, value)
		case "prefix":
			return strings.HasPrefix(value, r.values[0])
		}
		return false
	}
	if r.header != "" {
		for _, h := range in.Headers {
			if h.Name == r.header && check(h.Value) {
				return true
			}
		}
	} else {
		for pair, rest := "", in.Query; rest != ""; {
			pair, rest, _ = strings.Cut(rest, "&")
			name, value, _ := strings.Cut(pair, "=")
			if pair != "" && unescape(name) == r.query && check(unescape(value)) {
				return true
			}
		}
	}
	return r.test == "absent" && !found
}

// unescape decodes a part of a query (application/x-www-form-urlencoded). A
// malformed escape stays as it is.
func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			c = ' '
		} else if c == '%' && i+2 < len(s) {
			if high, low := hex(s[i+1]), hex(s[i+2]); high|low < 16 {
				c = high<<4 | low
				i += 2
			}
		}
		b = append(b, c)
	}
	return string(b)
}

// hex is the value of a hexadecimal digit, 16 for any other character.
func hex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}
