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
	deny    bool             // when no rule matches
	message string           // of that
	set     bool             // there is something to decide
	query   []hostabi.Header // parameters of one request; its memory is kept
}

// admitRule looks at one header or query parameter.
type admitRule struct {
	deny    bool
	message string
	header  string // lower case; empty: query
	query   string
	about   string          // whichever it is
	test    string          // "present", "absent", "equals" or "prefix"
	values  map[string]bool // of which one has to match
	longest int             // of values, in bytes
}

// What rules look at, since looking takes time, which a client must not be able to use
// up: with more of it a request is denied.
const (
	maxQuery  = 4 << 10 // bytes
	maxValues = 64      // parameters of a query
	maxSame   = 16      // fields, or parameters, that a rule is about
)

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
	r.about = r.header + r.query
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
			values := t.Strings(test.key)
			if values != nil && len(values) == 0 {
				t.Fail(test.key, "is empty, which nothing would match")
			}
			r.take(values...)
		default:
			r.take(t.String(test.key, ""))
		}
		r.test = test.name
		tests++
	}
	if tests > 1 {
		t.Fail(r.test, "a rule has at most one of absent, equals, one_of and prefix")
	}
	return r
}

// take sets the values of which one has to match.
func (r *admitRule) take(values ...string) {
	r.values, r.longest = map[string]bool{}, 0
	for _, v := range values {
		r.values[v] = true
		r.longest = max(r.longest, len(v))
	}
}

func (d *admission) admit(in *sdk.AdmitInput) (sdk.AdmitOutput, sdk.Answer) {
	if !d.set {
		return sdk.AdmitOutput{}, sdk.NoOpinion
	}
	deny, message := d.deny, d.message
	parsed := false
	for i := range d.rules {
		r := &d.rules[i]
		fields, ok := in.Headers, true
		if r.query != "" {
			if !parsed {
				parsed, ok = true, d.parameters(in.Query)
			}
			fields = d.query
		}
		matches := false
		if ok {
			matches, ok = r.matches(fields)
		}
		if !ok {
			deny, message = true, "the request has more than admission looks at"
			break
		}
		if matches {
			deny, message = r.deny, r.message
			break
		}
	}
	if !deny {
		return sdk.AdmitOutput{}, sdk.Once
	}
	return sdk.AdmitOutput{Deny: true, Code: hostabi.NotAdmitted, Message: message}, sdk.Once
}

// parameters sets query to those of a query, as they are written; false: they are too
// many.
func (d *admission) parameters(query string) (ok bool) {
	d.query = d.query[:0]
	if len(query) > maxQuery {
		return false
	}
	for pair, rest := "", query; rest != ""; {
		pair, rest, _ = strings.Cut(rest, "&")
		if len(d.query) == maxValues {
			return false
		}
		name, value, _ := strings.Cut(pair, "=")
		d.query = append(d.query, hostabi.Header{Name: name, Value: value})
	}
	return true
}

// matches tells whether the rule matches among fields, or parameters; ok is false where
// too many are what it is about.
func (r *admitRule) matches(fields []hostabi.Header) (matches, ok bool) {
	found := 0
	for i := range fields {
		name, value := fields[i].Name, fields[i].Value
		if r.query != "" { // what is longer than what is looked for need not be known whole
			name = unescape(name, len(r.query)+1)
		}
		if name != r.about {
			continue
		}
		if found++; found > maxSame {
			return false, false
		}
		if r.query != "" {
			value = unescape(value, r.longest+1)
		}
		switch r.test {
		case "present":
			return true, true
		case "equals":
			matches = len(value) <= r.longest && r.values[value]
		case "prefix":
			matches = len(value) >= r.longest && r.values[value[:r.longest]]
		}
		if matches {
			return true, true
		}
	}
	return r.test == "absent" && found == 0, true
}

// unescape decodes a part of a query (application/x-www-form-urlencoded), most bytes
// of it at most. A malformed escape stays as it is.
func unescape(s string, most int) string {
	if !strings.ContainsAny(s[:min(len(s), 3*most)], "%+") {
		return s[:min(len(s), most)]
	}
	b := make([]byte, 0, min(len(s), most))
	for i := 0; i < len(s) && len(b) < most; i++ {
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
