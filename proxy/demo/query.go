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
	if !q.args.Has(name) {
		return absent
	}
	s := string(q.args.Peek(name))
	n, err := strconv.Atoi(s)
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

func within(name string, n, least, most int) error {
	if n < least || n > most {
		return fmt.Errorf("%s %d is not between %d and %d", name, n, least, most)
	}
	return nil
}
