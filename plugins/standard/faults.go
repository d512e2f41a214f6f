package main

import (
	"slices"
	"strconv"

	"weir/hostabi"
	"weir/plugins/sdk/go"
	"weir/plugins/sdk/go/conf"
)

// faults override what is worth retrying. Their keys are fault codes, HTTP
// statuses ("502") and classes of them ("5xx").
type faults struct {
	permanent, retryable []string
	retryAfter           map[string]uint32 // milliseconds
	retryAfterAll        uint32
}

func (f *faults) read(c *conf.Table, shape *sdk.Shape) {
	f.permanent = c.Strings("permanent")
	f.retryable = c.Strings("retryable")
	for _, list := range []struct {
		key  string
		keys []string
	}{{"permanent", f.permanent}, {"retryable", f.retryable}} {
		for i, k := range list.keys {
			checkFault(c, list.key+"["+strconv.Itoa(i)+"]", k)
		}
	}
	for i, k := range f.retryable {
		if slices.Contains(f.permanent, k) {
			c.Fail("retryable["+strconv.Itoa(i)+"]", strconv.Quote(k)+" is also in permanent")
		}
	}
	if c.Has("retry_after") && !c.IsTable("retry_after") {
		f.retryAfterAll = c.Duration("retry_after", 0)
	} else {
		t := c.Table("retry_after")
		f.retryAfter = make(map[string]uint32)
		for _, k := range t.Keys() {
			checkFault(t, k, k)
			f.retryAfter[k] = t.Duration(k, 0)
		}
	}
	if len(f.permanent)+len(f.retryable)+len(f.retryAfter) == 0 && f.retryAfterAll == 0 {
		shape.Constant = append(shape.Constant, hostabi.FaultHook)
	}
}

func checkFault(c *conf.Table, key, name string) {
	if _, ok := hostabi.Lookup(hostabi.FaultCode(name)); ok || name == "4xx" || name == "5xx" {
		return
	}
	if n, err := strconv.Atoi(name); err == nil && n >= 400 && n <= 599 && len(name) == 3 {
		return
	}
	c.Fail(key, strconv.Quote(name)+` is neither a fault code nor a status such as 502 or "5xx"`)
}

// names are what a fault can be called by, the most specific first.
func names(in *sdk.FaultInput) (n []string) {
	if in.Code != "" {
		n = append(n, string(in.Code))
	}
	if in.Status >= 400 && in.Status <= 599 {
		n = append(n, strconv.Itoa(int(in.Status)), strconv.Itoa(int(in.Status/100))+"xx")
	}
	return n
}

func (f *faults) classify(in *sdk.FaultInput) (sdk.FaultOutput, sdk.Answer) {
	out, set := hostabi.DefaultFault(in), false
	for _, n := range names(in) {
		permanent := slices.Contains(f.permanent, n)
		if permanent || slices.Contains(f.retryable, n) {
			out.Retryable, set = !permanent, true
			break
		}
	}
	if out.Retryable {
		out.RetryAfterMS = f.retryAfterAll
		for _, n := range names(in) {
			if ms := f.retryAfter[n]; ms != 0 {
				out.RetryAfterMS = ms
				break
			}
		}
	}
	return out, sdk.If(set || out.RetryAfterMS != 0)
}
