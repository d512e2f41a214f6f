package hostabi

// AppendTo appends the encoded message to dst, leaving out zero values.
// Decode sets the message from b, of which byte slices are aliased; strings are
// copied by the host and aliased by guests (see text). Unknown tags are skipped,
// and of a field given twice the last counts.

// AppendTo appends the encoded message to dst.
func (m *ConfigureInput) AppendTo(dst []byte) []byte {
	dst = appendString(dst, TagConfigureInputPolicy, m.Policy)
	dst = appendBytes(dst, TagConfigureInputConfig, m.Config)
	dst = appendUint(dst, TagConfigureInputHostMinor, 2, uint64(m.HostMinor))
	return appendStrings(dst, TagConfigureInputFeatures, m.Features)
}

// Decode sets m from b; Config aliases b.
func (m *ConfigureInput) Decode(b []byte) error {
	*m = ConfigureInput{}
	return each(b, func(tag uint16, v []byte) (err error) {
		switch tag {
		case TagConfigureInputPolicy:
			m.Policy = text(v)
		case TagConfigureInputConfig:
			m.Config = v
		case TagConfigureInputHostMinor:
			var n uint64
			n, err = readUint(tag, v, 2)
			m.HostMinor = uint16(n)
		case TagConfigureInputFeatures:
			m.Features = append(m.Features, text(v))
		}
		return err
	})
}

// AppendTo appends the encoded message to dst.
func (m *Shape) AppendTo(dst []byte) []byte {
	dst = appendStrings(dst, TagShapeEventKey, m.EventKey)
	dst = appendStrings(dst, TagShapeKeep, m.Keep)
	dst = appendStrings(dst, TagShapePrewarm, m.Prewarm)
	for _, h := range m.Constant {
		dst = appendNumber(dst, TagShapeConstant, 1, uint64(h))
	}
	dst = appendStrings(dst, TagShapeFramingHeaders, m.FramingHeaders)
	dst = appendStrings(dst, TagShapeAdmitHeaders, m.AdmitHeaders)
	return appendString(dst, TagShapeErrorTypeHeader, m.ErrorTypeHeader)
}

// Decode sets m from b. Hooks in Constant that this version does not know are
// skipped.
func (m *Shape) Decode(b []byte) error {
	*m = Shape{}
	return each(b, func(tag uint16, v []byte) (err error) {
		switch tag {
		case TagShapeEventKey:
			m.EventKey = append(m.EventKey, text(v))
		case TagShapeKeep:
			m.Keep = append(m.Keep, text(v))
		case TagShapePrewarm:
			m.Prewarm = append(m.Prewarm, text(v))
		case TagShapeConstant:
			var n uint64
			if n, err = readUint(tag, v, 1); err == nil && n < NumHooks {
				m.Constant = append(m.Constant, Hook(n))
			}
		case TagShapeFramingHeaders:
			m.FramingHeaders = append(m.FramingHeaders, text(v))
		case TagShapeAdmitHeaders:
			m.AdmitHeaders = append(m.AdmitHeaders, text(v))
		case TagShapeErrorTypeHeader:
			m.ErrorTypeHeader = text(v)
		}
		return err
	})
}

// AppendTo appends the encoded message to dst.
func (m *ClassifyInput) AppendTo(dst []byte) []byte {
	dst = appendString(dst, TagClassifyInputRoute, m.Route)
	dst = appendUint(dst, TagClassifyInputDirection, 1, uint64(m.Direction))
	return appendBytes(dst, TagClassifyInputKey, m.Key)
}

// Decode sets m from b; Key aliases b.
func (m *ClassifyInput) Decode(b []byte) error {
	*m = ClassifyInput{}
	return each(b, func(tag uint16, v []byte) (err error) {
		switch tag {
		case TagClassifyInputRoute:
			m.Route = text(v)
		case TagClassifyInputDirection:
			m.Direction, err = readEnum(tag, v, ToClient)
		case TagClassifyInputKey:
			m.Key = v
		}
		return err
	})
}

// AppendTo appends the encoded message to dst.
func (m *Rule) AppendTo(dst []byte) []byte {
	dst = appendUint(dst, TagRuleClass, 1, uint64(m.Class))
	dst = appendString(dst, TagRuleUnless, m.Unless)
	dst = appendString(dst, TagRuleConflate, m.Conflate)
	dst = appendUint(dst, TagRulePriority, 1, uint64(m.Priority))
	return appendUint(dst, TagRuleMaxSize, 8, m.MaxSize)
}

// Decode sets m from b.
func (m *Rule) Decode(b []byte) error {
	*m = Rule{}
	return each(b, func(tag uint16, v []byte) (err error) {
		switch tag {
		case TagRuleClass:
			m.Class, err = readEnum(tag, v, Droppable)
		case TagRuleUnless:
			m.Unless = text(v)
		case TagRuleConflate:
			m.Conflate = text(v)
		case TagRulePriority:
			m.Priority, err = readEnum[uint8](tag, v, 0xFF)
		case TagRuleMaxSize:
			m.MaxSize, err = readUint(tag, v, 8)
		}
		return err
	})
}

// AppendTo appends the encoded message to dst.
func (m *FaultInput) AppendTo(dst []byte) []byte {
	dst = appendString(dst, TagFaultInputRoute, m.Route)
	dst = appendString(dst, TagFaultInputCode, string(m.Code))
	dst = appendUint(dst, TagFaultInputStatus, 2, uint64(m.Status))
	dst = appendString(dst, TagFaultInputErrorType, m.ErrorType)
	return appendBytes(dst, TagFaultInputBody, m.Body)
}

// Decode sets m from b; Body aliases b.
func (m *FaultInput) Decode(b []byte) error {
	*m = FaultInput{}
	return each(b, func(tag uint16, v []byte) (err error) {
		switch tag {
		case TagFaultInputRoute:
			m.Route = text(v)
		case TagFaultInputCode:
			m.Code = FaultCode(text(v))
		case TagFaultInputStatus:
			var n uint64
			n, err = readUint(tag, v, 2)
			m.Status = uint16(n)
		case TagFaultInputErrorType:
			m.ErrorType = text(v)
		case TagFaultInputBody:
			m.Body = v
		}
		return err
	})
}

// AppendTo appends the encoded message to dst.
func (m *FaultOutput) AppendTo(dst []byte) []byte {
	dst = appendBool(dst, TagFaultOutputRetryable, m.Retryable)
	return appendUint(dst, TagFaultOutputRetryAfterMS, 4, uint64(m.RetryAfterMS))
}

// Decode sets m from b.
func (m *FaultOutput) Decode(b []byte) error {
	*m = FaultOutput{}
	return each(b, func(tag uint16, v []byte) (err error) {
		switch tag {
		case TagFaultOutputRetryable:
			m.Retryable, err = readBool(tag, v)
		case TagFaultOutputRetryAfterMS:
			var n uint64
			n, err = readUint(tag, v, 4)
			m.RetryAfterMS = uint32(n)
		}
		return err
	})
}

// AppendTo appends the encoded message to dst.
func (m *ErrorInput) AppendTo(dst []byte) []byte {
	dst = appendString(dst, TagErrorInputRoute, m.Route)
	dst = appendString(dst, TagErrorInputCode, string(m.Code))
	dst = appendUint(dst, TagErrorInputTransport, 1, uint64(m.Transport))
	return appendUint(dst, TagErrorInputDirection, 1, uint64(m.Direction))
}

// Decode sets m from b.
func (m *ErrorInput) Decode(b []byte) error {
	*m = ErrorInput{}
	return each(b, func(tag uint16, v []byte) (err error) {
		switch tag {
		case TagErrorInputRoute:
			m.Route = text(v)
		case TagErrorInputCode:
			m.Code = FaultCode(text(v))
		case TagErrorInputTransport:
			m.Transport, err = readEnum(tag, v, WebSocket)
		case TagErrorInputDirection:
			m.Direction, err = readEnum(tag, v, ToClient)
		}
		return err
	})
}

// AppendTo appends the encoded message to dst.
func (m *ErrorOutput) AppendTo(dst []byte) []byte {
	dst = appendString(dst, TagErrorOutputTemplate, m.Template)
	dst = appendString(dst, TagErrorOutputContentType, m.ContentType)
	dst = appendUint(dst, TagErrorOutputRecipient, 1, uint64(m.Recipient))
	dst = appendUint(dst, TagErrorOutputStatus, 2, uint64(m.Status))
	dst = appendUint(dst, TagErrorOutputClose, 2, uint64(m.Close))
	return appendBool(dst, TagErrorOutputBinary, m.Binary)
}

// Decode sets m from b.
func (m *ErrorOutput) Decode(b []byte) error {
	*m = ErrorOutput{}
	return each(b, func(tag uint16, v []byte) (err error) {
		var n uint64
		switch tag {
		case TagErrorOutputTemplate:
			m.Template = text(v)
		case TagErrorOutputContentType:
			m.ContentType = text(v)
		case TagErrorOutputRecipient:
			m.Recipient, err = readEnum(tag, v, ToNobody)
		case TagErrorOutputStatus:
			n, err = readUint(tag, v, 2)
			m.Status = uint16(n)
		case TagErrorOutputClose:
			n, err = readUint(tag, v, 2)
			m.Close = uint16(n)
		case TagErrorOutputBinary:
			m.Binary, err = readBool(tag, v)
		}
		return err
	})
}
