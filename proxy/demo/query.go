package demo

import (
	"fmt"
	"strconv"

	"github.com/valyala/fasthttp"
)

// query reads bounded numbers from a query string and keeps the first error.
type query struct {
	args *fasthttp.Args
	err  error
}

// int is the parameter's value, or absent where there is none.
func (q *query) int(name string, absent, least, most int) int {
	return int(q.int64(name, int64(absent), int64(least), int64(most)))
}

// int64 is int for what may be more than an int of 32 bits holds.
func (q *query) int64(name string, absent, least, most int64) int64 {
	if !q.args.Has(name) {
		return absent
	}
	s := string(q.args.Peek(name))
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil && q.err == nil {
		q.err = fmt.Errorf("%s=%q is not a whole number", name, s)
	}
	if err == nil {
		err = within(name, n, least, most)
	}
	if err != nil {
		if q.err == nil {
			q.err = err
		}
		return absent
	}
	return n
}

// refused answers 400 if a parameter was not as it should be.
func (q *query) refused(ctx *fasthttp.RequestCtx) bool {
	if q.err == nil {
		return false
	}
	refuse(ctx, fasthttp.StatusBadRequest, q.err.Error())
	return true
}

func within[N int | int64](name string, n, least, most N) error {
	if n < least || n > most {
		return fmt.Errorf("%s %d is not between %d and %d", name, n, least, most)
	}
	return nil
}
