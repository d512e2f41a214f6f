package hostabi

// The messages that describe a request: admit and framing.

// AppendTo appends the encoded message to dst.
func (m *AdmitInput) AppendTo(dst []byte) []byte {
	dst = appendString(dst, TagAdmitInputRoute, m.Route)
	dst = appendUint(dst, TagAdmitInputTransport, 1, uint64(m.Transport))
	dst = appendString(dst, TagAdmitInputMethod, m.Method)
	dst = appendString(dst, TagAdmitInputHost, m.Host)
	dst = appendString(dst, TagAdmitInputPath, m.Path)
	dst = appendString(dst, TagAdmitInputQuery, m.Query)
	dst = appendString(dst, TagAdmitInputPeer, m.Peer)
	return appendHeaders(dst, TagAdmitInputHeaders, m.Headers)
}

// Decode sets m from b, in the list that m has already.
func (m *AdmitInput) Decode(b []byte) error {
	*m = AdmitInput{Headers: m.Headers[:0]}
	return each(b, func(tag uint16, v []byte) (err error) {
		switch tag {
		case TagAdmitInputRoute:
			m.Route = text(v)
		case TagAdmitInputTransport:
			m.Transport, err = readEnum(tag, v, WebSocket)
		case TagAdmitInputMethod:
			m.Method = text(v)
		case TagAdmitInputHost:
			m.Host = text(v)
		case TagAdmitInputPath:
			m.Path = text(v)
		case TagAdmitInputQuery:
			m.Query = text(v)
		case TagAdmitInputPeer:
			m.Peer = text(v)
		case TagAdmitInputHeaders:
			var h Header
			h, err = readHeader(tag, v)
			m.Headers = append(m.Headers, h)
		}
		return err
	})
}

// AppendTo appends the encoded message to dst.
func (m *AdmitOutput) AppendTo(dst []byte) []byte {
	dst = appendBool(dst, TagAdmitOutputDeny, m.Deny)
	dst = appendString(dst, TagAdmitOutputCode, string(m.Code))
	dst = appendString(dst, TagAdmitOutputMessage, m.Message)
	return appendString(dst, TagAdmitOutputLimitClass, m.LimitClass)
}

// Decode sets m from b.
func (m *AdmitOutput) Decode(b []byte) error {
	*m = AdmitOutput{}
	return each(b, func(tag uint16, v []byte) (err error) {
		switch tag {
		case TagAdmitOutputDeny:
			m.Deny, err = readBool(tag, v)
		case TagAdmitOutputCode:
			m.Code = FaultCode(text(v))
		case TagAdmitOutputMessage:
			m.Message = text(v)
		case TagAdmitOutputLimitClass:
			m.LimitClass = text(v)
		}
		return err
	})
}

// AppendTo appends the encoded message to dst.
func (m *FramingInput) AppendTo(dst []byte) []byte {
	dst = appendString(dst, TagFramingInputRoute, m.Route)
	dst = appendUint(dst, TagFramingInputTransport, 1, uint64(m.Transport))
	dst = appendString(dst, TagFramingInputPath, m.Path)
	dst = appendStrings(dst, TagFramingInputSubprotocols, m.Subprotocols)
	return appendHeaders(dst, TagFramingInputHeaders, m.Headers)
}

// Decode sets m from b, in the lists that m has already.
func (m *FramingInput) Decode(b []byte) error {
	*m = FramingInput{Subprotocols: m.Subprotocols[:0], Headers: m.Headers[:0]}
	return each(b, func(tag uint16, v []byte) (err error) {
		switch tag {
		case TagFramingInputRoute:
			m.Route = text(v)
		case TagFramingInputTransport:
			m.Transport, err = readEnum(tag, v, WebSocket)
		case TagFramingInputPath:
			m.Path = text(v)
		case TagFramingInputSubprotocols:
			m.Subprotocols = append(m.Subprotocols, text(v))
		case TagFramingInputHeaders:
			var h Header
			h, err = readHeader(tag, v)
			m.Headers = append(m.Headers, h)
		}
		return err
	})
}

// AppendTo appends the encoded message to dst.
func (m *FramingOutput) AppendTo(dst []byte) []byte {
	dst = appendUint(dst, TagFramingOutputClient, 1, uint64(m.Client))
	dst = appendUint(dst, TagFramingOutputUpstream, 1, uint64(m.Upstream))
	return appendUint(dst, TagFramingOutputMaxFrameSize, 4, uint64(m.MaxFrameSize))
}

// Decode sets m from b.
func (m *FramingOutput) Decode(b []byte) error {
	*m = FramingOutput{}
	return each(b, func(tag uint16, v []byte) (err error) {
		switch tag {
		case TagFramingOutputClient:
			m.Client, err = readEnum(tag, v, FramedV1)
		case TagFramingOutputUpstream:
			m.Upstream, err = readEnum(tag, v, FramedV1)
		case TagFramingOutputMaxFrameSize:
			var n uint64
			n, err = readUint(tag, v, 4)
			m.MaxFrameSize = uint32(n)
		}
		return err
	})
}
