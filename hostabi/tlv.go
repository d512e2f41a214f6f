package hostabi

import "strconv"

// A message is a run of TLVs (ABI.md §6): u16 tag, u16 length, that many
// bytes, all little-endian, without padding.

const (
	tlvHead  = 4      // bytes of tag and length
	tlvValue = 0xFFFF // largest value of one TLV
)

// Error tells where a message is malformed: a value that is cut off, has
// another width than its type, or lies outside its table (ABI.md §6).
type Error struct {
	Tag  uint16 // tag of the TLV; 0 when not even its head was complete
	Want int    // bytes wanted; for Range the largest value allowed
	Have int    // bytes there; for Range the value found
	// Range is set when the width is right and the value is not in the table.
	Range bool
}

// Error says the tag, what was wanted and what was there.
func (e *Error) Error() string {
	s := "tlv tag " + strconv.Itoa(int(e.Tag)) + ": "
	if e.Range {
		return s + "value " + strconv.Itoa(e.Have) + ", largest allowed " + strconv.Itoa(e.Want)
	}
	return s + "wanted " + strconv.Itoa(e.Want) + " bytes, have " + strconv.Itoa(e.Have)
}

// AppendTLV appends one TLV to dst. A value beyond 65,535 bytes is cut there:
// such a message exceeds MaxInput and MaxOutput, and whoever sends it is
// refused for its length.
func AppendTLV(dst []byte, tag uint16, value []byte) []byte {
	value = value[:min(len(value), tlvValue)]
	return append(appendHead(dst, tag, len(value)), value...)
}

// Next splits the first TLV off b. Value and rest alias b.
func Next(b []byte) (tag uint16, value, rest []byte, err error) {
	if len(b) < tlvHead {
		return 0, nil, nil, &Error{Want: tlvHead, Have: len(b)}
	}
	tag = uint16(b[0]) | uint16(b[1])<<8
	n := int(b[2]) | int(b[3])<<8
	b = b[tlvHead:]
	if len(b) < n {
		return tag, nil, nil, &Error{Tag: tag, Want: n, Have: len(b)}
	}
	return tag, b[:n:n], b[n:], nil
}

// each calls f with every TLV of b.
func each(b []byte, f func(tag uint16, v []byte) error) error {
	for len(b) > 0 {
		tag, v, rest, err := Next(b)
		if err != nil {
			return err
		}
		if err := f(tag, v); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func appendHead(dst []byte, tag uint16, n int) []byte {
	return append(dst, byte(tag), byte(tag>>8), byte(n), byte(n>>8))
}

// The append functions below leave out zero values: absent means zero.

func appendString(dst []byte, tag uint16, s string) []byte {
	if s == "" {
		return dst
	}
	return appendElement(dst, tag, s)
}

// appendElement appends a list's element, which may be empty.
func appendElement(dst []byte, tag uint16, s string) []byte {
	s = s[:min(len(s), tlvValue)]
	return append(appendHead(dst, tag, len(s)), s...)
}

func appendStrings(dst []byte, tag uint16, list []string) []byte {
	for _, s := range list {
		dst = appendElement(dst, tag, s)
	}
	return dst
}

func appendBytes(dst []byte, tag uint16, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return AppendTLV(dst, tag, b)
}

func appendUint(dst []byte, tag uint16, width int, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return appendNumber(dst, tag, width, v)
}

func appendNumber(dst []byte, tag uint16, width int, v uint64) []byte {
	dst = appendHead(dst, tag, width)
	for range width {
		dst = append(dst, byte(v))
		v >>= 8
	}
	return dst
}

func appendBool(dst []byte, tag uint16, b bool) []byte {
	if !b {
		return dst
	}
	return appendNumber(dst, tag, 1, 1)
}

// appendHeaders writes each header as u16 length of the name, name, value.
func appendHeaders(dst []byte, tag uint16, list []Header) []byte {
	for _, h := range list {
		name := h.Name[:min(len(h.Name), tlvValue-2)]
		value := h.Value[:min(len(h.Value), tlvValue-2-len(name))]
		dst = appendHead(dst, tag, 2+len(name)+len(value))
		dst = append(dst, byte(len(name)), byte(len(name)>>8))
		dst = append(dst, name...)
		dst = append(dst, value...)
	}
	return dst
}

// readUint reads a number of exactly width bytes.
func readUint(tag uint16, v []byte, width int) (n uint64, err error) {
	if len(v) != width {
		return 0, &Error{Tag: tag, Want: width, Have: len(v)}
	}
	for i := width - 1; i >= 0; i-- {
		n = n<<8 | uint64(v[i])
	}
	return n, nil
}

// readEnum reads one byte that is at most last.
func readEnum[T ~uint8](tag uint16, v []byte, last T) (T, error) {
	n, err := readUint(tag, v, 1)
	if err == nil && n > uint64(last) {
		err = &Error{Tag: tag, Want: int(last), Have: int(n), Range: true}
	}
	return T(n), err
}

func readBool(tag uint16, v []byte) (bool, error) {
	n, err := readEnum[uint8](tag, v, 1)
	return n == 1, err
}

func readHeader(tag uint16, v []byte) (Header, error) {
	if len(v) < 2 {
		return Header{}, &Error{Tag: tag, Want: 2, Have: len(v)}
	}
	n := int(v[0]) | int(v[1])<<8
	if v = v[2:]; len(v) < n {
		return Header{}, &Error{Tag: tag, Want: n, Have: len(v)}
	}
	return Header{Name: text(v[:n]), Value: text(v[n:])}, nil
}
