package http1

import "strconv"

// Write adds to the body. It is buffered until Flush, Finish or 32 KiB.
func (x *Exchange) Write(p []byte) (int, error) {
	switch {
	case x.err != nil:
		return 0, x.err
	case !x.started:
		return 0, ErrNotStarted
	case x.finished:
		return 0, ErrFinished
	}
	if x.left >= 0 {
		if int64(len(p)) > x.left {
			return 0, x.fail(ErrLength)
		}
		x.left -= int64(len(p))
	}
	x.written += int64(len(p))
	if x.head || len(p) == 0 {
		return len(p), nil
	}
	total := len(p)
	for len(p) > 0 {
		n := min(len(p), outSize-len(x.out)-chunkOverhead)
		if n < len(p) && len(x.out) > 0 && (n <= 0 || len(p) <= outSize-chunkOverhead) {
			if err := x.Flush(); err != nil { // what fits a buffer is not split
				return 0, err
			}
			continue
		}
		x.appendData(p[:n])
		p = p[n:]
	}
	return total, nil
}

// chunkOverhead is what a chunk and the end of a chunked body add.
const chunkOverhead = 16 + len("\r\n") + len("\r\n0\r\n\r\n")

func (x *Exchange) appendData(p []byte) {
	x.takeOut()
	if x.chunked {
		x.out = strconv.AppendInt(x.out, int64(len(p)), 16)
		x.out = append(x.out, "\r\n"...)
	}
	x.out = append(x.out, p...)
	if x.chunked {
		x.out = append(x.out, "\r\n"...)
	}
}

// Flush sends what is buffered, and gives the buffer back.
func (x *Exchange) Flush() error {
	if x.err != nil {
		return x.err
	}
	if len(x.out) == 0 {
		return nil
	}
	if err := x.c.write(x.out); err != nil {
		return x.fail(err)
	}
	x.dropOut()
	return nil
}

// Finish ends the answer properly and sends it.
func (x *Exchange) Finish() error {
	switch {
	case x.err != nil:
		return x.err
	case !x.started:
		return ErrNotStarted
	case x.finished:
		return nil
	}
	if x.left > 0 && !x.head {
		return x.fail(ErrLength)
	}
	x.finished = true
	if x.chunked {
		x.takeOut()
		x.out = append(x.out, "0\r\n"...)
		x.out = append(x.out, x.Trailer...)
		x.out = append(x.out, "\r\n"...)
	}
	if err := x.Flush(); err != nil {
		return err
	}
	if x.toEnd {
		x.c.unframed.Store(false)
	}
	return nil
}

// fail keeps the first error; the connection cannot be used after it.
func (x *Exchange) fail(err error) error {
	if x.err == nil {
		x.err = err
	}
	return x.err
}

// Abort has the connection end behind Handler so that the client cannot take the
// answer for whole: what is buffered is sent, then the connection closes before the
// end that the framing promised; with a reset when there is no framing.
func (x *Exchange) Abort() {
	if x.aborted {
		return
	}
	if x.started && !x.finished && !x.toEnd {
		_ = x.Flush()
	}
	x.aborted = true
	_ = x.fail(ErrAborted)
}

// Respond writes a whole small answer with what else is in Resp. The request
// body is over with it: what is not here yet is not waited for.
func (x *Exchange) Respond(status int, contentType string, body []byte) error {
	if x.started {
		return ErrStarted
	}
	x.Resp.Status, x.Resp.Reason = status, nil
	if contentType != "" {
		x.Resp.Set("Content-Type", contentType)
	}
	if !x.discardBuffered() {
		x.close = true
	}
	if err := x.Start(int64(len(body))); err != nil {
		return err
	}
	if _, err := x.Write(body); err != nil {
		return err
	}
	return x.Finish()
}
