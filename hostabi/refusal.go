package hostabi

// Refusal is the output of a call whose status is neither StatusOK nor
// StatusNoOpinion (ABI.md §5.2): why the guest refused its input. A refusal of
// weir_configure is shown to the operator, and the policy is not loaded.
type Refusal struct {
	Message string // one sentence, beginning with the key it is about
}

// AppendTo appends the encoded message to dst.
func (m *Refusal) AppendTo(dst []byte) []byte {
	return appendString(dst, TagRefusalMessage, m.Message)
}

// Decode sets m from b; unknown tags are skipped.
func (m *Refusal) Decode(b []byte) error {
	*m = Refusal{}
	return each(b, func(tag uint16, v []byte) error {
		if tag == TagRefusalMessage {
			m.Message = text(v)
		}
		return nil
	})
}
