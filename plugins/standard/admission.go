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
	headers subjects
	query   subjects
	escaped int    // bytes of a query that have been unescaped
	deny    bool   // when no rule matches
	message string // of that
	set     bool   // there is something to decide
}

// admitRule looks at one header or query parameter.
type admitRule struct {
	deny    bool
	message string
	about   *subject
	query   bool            // it is a parameter
	test    string          // "present", "absent", "equals" or "prefix"
	values  map[string]bool // of which one has to match
	longest int             // of values, in bytes
}

// subjects are all headers, or all parameters, that rules are about, by name: a
// request is gone over once, however many rules there are.
type subjects struct {
	of      map[string]*subject
	all     []*subject
	longest int // of the names, in bytes
}

// subject is a header or a parameter.
type subject struct {
	values  []string // of one request, maxSame+1 at most; its memory is kept
	longest int      // of what rules compare them with, in bytes
}

// get returns the subject of a name, which is new at first.
func (s *subjects) get(name string) *subject {
	if s.of == nil {
		s.of = map[string]*subject{}
	}
	if s.of[name] == nil {
		s.of[name] = &subject{}
		s.all = append(s.all, s.of[name])
		s.longest = max(s.longest, len(name))
	}
	return s.of[name]
}

// clear forgets the values of the last request.
func (s *subjects) clear() {
	for _, about := range s.all {
		about.values = about.values[:0]
	}
}

// What rules look at, since looking takes time, which a client must not be able to use
// up: with more of it a request is denied.
const (
	maxQuery  = 4 << 10 // bytes
	maxValues = 64      // parameters of a query
	maxSame   = 16      // fields, or parameters, that a rule is about
	maxLooks  = 128     // values behind the first of a rule, for all rules together

	maxEscaped = 1 << 10 // bytes of names and values with escapes in them, which take the longest
)

func (d *admission) read(c *conf.Table, shape *sdk.Shape) {
	t := c.Table("admit")
	d.deny = t.OneOf("default", "allow", "deny") == "deny"
	if d.message = t.String("message", ""); d.message != "" && !d.deny {
		t.Fail("message", `is shown only with default = "deny"; a rule has its own`)
	}
	for _, rule := range t.Tables("rules") {
		r, header, query := readRule(rule)
		if r.query = query != ""; r.query {
			r.about = d.query.get(query)
		} else {
			r.about = d.headers.get(header)
		}
		r.about.longest = max(r.about.longest, r.longest)
		d.rules = append(d.rules, r)
		if header != "" && !slices.Contains(shape.AdmitHeaders, header) {
			shape.AdmitHeaders = append(shape.AdmitHeaders, header)
		}
	}
	if d.set = len(d.rules) > 0 || d.deny; !d.set {
		shape.Constant = append(shape.Constant, hostabi.Admit)
	}
}

func readRule(t *conf.Table) (r admitRule, header, query string) {
	r.deny = t.Bool("deny", false)
	if allow := t.Bool("allow", false); allow == r.deny {
		t.Fail("deny", "a rule needs deny = true or allow = true, and not both")
	}
	r.message = t.String("message", "")
	if r.message != "" && !r.deny {
		t.Fail("message", "only a rule that denies has a message")
	}
	header = strings.ToLower(t.String("header", ""))
	query = t.String("query", "")
	if (header == "") == (query == "") {
		t.Fail("header", "a rule needs a header or a query, and not both")
	}
	if header == "*" { // a policy asks for all by it
		t.Fail("header", "* is no header's name")
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
	return r, header, query
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
	d.headers.clear()
	for i := range in.Headers {
		if s := d.headers.of[in.Headers[i].Name]; s != nil && len(s.values) <= maxSame {
			s.values = append(s.values, in.Headers[i].Value)
		}
	}
	deny, message := d.deny, d.message
	parsed, looks := false, 0
	for i := range d.rules {
		r := &d.rules[i]
		matches, ok := false, true
		if r.query && !parsed {
			parsed, ok = true, d.parameters(in.Query)
		}
		if ok {
			matches, ok = r.matches(&looks)
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

// parameters sets those of a query that rules are about; false: it has too many.
func (d *admission) parameters(query string) (ok bool) {
	d.query.clear()
	if len(query) > maxQuery {
		return false
	}
	d.escaped = 0
	pair, n := "", 0
	for rest := query; rest != ""; n++ {
		if n == maxValues || d.escaped > maxEscaped {
			return false
		}
		pair, rest, _ = strings.Cut(rest, "&")
		name, value, _ := strings.Cut(pair, "=")
		// What is longer than what is looked for need not be known: an escape takes two.
		if most := d.query.longest; len(name) > most && len(name)-2*strings.Count(name, "%") > most {
			continue
		}
		if s := d.query.of[d.unescape(name, d.query.longest+1)]; s != nil && len(s.values) <= maxSame {
			s.values = append(s.values, d.unescape(value, s.longest+1))
		}
	}
	return d.escaped <= maxEscaped
}

// matches tells whether the rule matches, and counts what it looks at behind the first
// value, which its author must have thought of; ok is false where that is too much.
func (r *admitRule) matches(looks *int) (matches, ok bool) {
	values := r.about.values
	for i, value := range values {
		if i > 0 {
			*looks++
		}
		if i == maxSame || *looks > maxLooks {
			return false, false
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
	return r.test == "absent" && len(values) == 0, true
}

// unescape decodes a part of a query (application/x-www-form-urlencoded), most bytes
// of it at most. A malformed escape stays as it is. It counts what has escapes, and
// leaves out what is more than maxEscaped.
func (d *admission) unescape(s string, most int) string {
	s = s[:min(len(s), 3*most)]
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s[:min(len(s), most)]
	}
	if d.escaped += len(s); d.escaped > maxEscaped {
		return ""
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
