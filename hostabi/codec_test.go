package hostabi

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

type message interface {
	AppendTo([]byte) []byte
	Decode([]byte) error
}

// samples holds every message type with every field set.
var samples = []struct {
	name string
	full message
	zero func() message
}{
	{"ConfigureInput", &ConfigureInput{Policy: "chat", Config: []byte(`{"a":1}`), HostMinor: 7, Features: []string{"x", ""}}, func() message { return new(ConfigureInput) }},
	{"Shape", &Shape{EventKey: []string{"/type", "/action"}, Keep: []string{"/id"}, Prewarm: []string{"typing", ""}, Constant: []Hook{Configure, ErrorHook}, FramingHeaders: []string{"x-v"}, AdmitHeaders: []string{"*"}, ErrorTypeHeader: "x-amzn-errortype"}, func() message { return new(Shape) }},
	{"ClassifyInput", &ClassifyInput{Route: "r", Direction: ToClient, Key: []byte("typing")}, func() message { return new(ClassifyInput) }},
	{"Rule", &Rule{Class: Droppable, Unless: "/seq", Conflate: "/user", Priority: 9, MaxSize: 1<<63 + 5}, func() message { return new(Rule) }},
	{"AdmitInput", &AdmitInput{Route: "r", Transport: WebSocket, Method: "GET", Host: "h", Path: "/p", Query: "a=b", Peer: "::1", Headers: []Header{{"a", "1"}, {"a", ""}, {"", ""}}}, func() message { return new(AdmitInput) }},
	{"AdmitOutput", &AdmitOutput{Deny: true, Code: RateLimited, Message: "m", LimitClass: "free"}, func() message { return new(AdmitOutput) }},
	{"FramingInput", &FramingInput{Route: "r", Transport: WebSocket, Path: "/p", Subprotocols: []string{"a"}, Headers: []Header{{"x-v", "4.6.0"}}}, func() message { return new(FramingInput) }},
	{"FramingOutput", &FramingOutput{Client: FramedV1, Upstream: FramedV1, MaxFrameSize: 1 << 31}, func() message { return new(FramingOutput) }},
	{"FaultInput", &FaultInput{Route: "r", Code: UpstreamClosed, Status: 502, ErrorType: "KMSDisabledException", Body: []byte("{}")}, func() message { return new(FaultInput) }},
	{"FaultOutput", &FaultOutput{Retryable: true, RetryAfterMS: 1 << 30}, func() message { return new(FaultOutput) }},
	{"ErrorInput", &ErrorInput{Route: "r", Code: Gap, Transport: WebSocket, Direction: ToClient}, func() message { return new(ErrorInput) }},
	{"ErrorOutput", &ErrorOutput{Template: "{{code}}", ContentType: JSONType, Recipient: ToNobody, Status: 599, Close: 4999, Binary: true}, func() message { return new(ErrorOutput) }},
	{"Refusal", &Refusal{Message: "no"}, func() message { return new(Refusal) }},
}

func TestMessagesRoundTrip(t *testing.T) {
	for _, s := range samples {
		v := reflect.ValueOf(s.full).Elem()
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s: the sample leaves %s zero", s.name, v.Type().Field(i).Name)
			}
		}
		got := s.zero()
		if err := got.Decode(s.full.AppendTo(nil)); err != nil || !reflect.DeepEqual(got, s.full) {
			t.Errorf("%s: %+v became %+v, %v", s.name, s.full, got, err)
		}
	}
}

func TestZeroMessagesAreEmpty(t *testing.T) {
	for _, s := range samples {
		if b := s.zero().AppendTo(nil); len(b) != 0 {
			t.Errorf("%s: zero value encodes to % x", s.name, b)
		}
	}
}

func TestDecodeForgetsWhatWasThere(t *testing.T) {
	for _, s := range samples {
		m := s.zero()
		if err := errors.Join(m.Decode(s.full.AppendTo(nil)), m.Decode(nil)); err != nil || len(m.AppendTo(nil)) != 0 {
			t.Errorf("%s: %+v, %v", s.name, m, err)
		}
	}
}

func TestUnknownTagsAreSkipped(t *testing.T) {
	for _, s := range samples {
		b := AppendTLV(nil, 0xFFFE, []byte("from a later minor"))
		got := s.zero()
		if err := got.Decode(b); err != nil || !reflect.DeepEqual(got, s.zero()) {
			t.Errorf("%s: %+v, %v", s.name, got, err)
		}
	}
}

func TestTruncatedMessagesSayWhatIsMissing(t *testing.T) {
	for _, s := range samples {
		whole := s.full.AppendTo(nil)
		whole = s.zero().AppendTo(whole)
		for n := range whole {
			err := s.zero().Decode(whole[:n])
			var e *Error
			if err != nil && (!errors.As(err, &e) || e.Have >= e.Want) {
				t.Errorf("%s cut at %d: %v", s.name, n, err)
			}
		}
	}
}

func TestMalformedValuesAreNamed(t *testing.T) {
	f := func(m message, tag uint16, value, want string) {
		t.Helper()
		err := m.Decode(AppendTLV(nil, tag, []byte(value)))
		if err == nil || err.Error() != want {
			t.Errorf("%T tag %d %q: %v, want %s", m, tag, value, err, want)
		}
	}
	f(new(Rule), TagRuleMaxSize, "1234567", "tlv tag 5: wanted 8 bytes, have 7")
	f(new(Rule), TagRuleMaxSize, "123456789", "tlv tag 5: wanted 8 bytes, have 9")
	f(new(Rule), TagRuleClass, "", "tlv tag 1: wanted 1 bytes, have 0")
	f(new(Rule), TagRuleClass, "\x02", "tlv tag 1: value 2, largest allowed 1")
	f(new(ErrorOutput), TagErrorOutputRecipient, "\x03", "tlv tag 3: value 3, largest allowed 2")
	f(new(ErrorOutput), TagErrorOutputBinary, "\x02", "tlv tag 6: value 2, largest allowed 1")
	f(new(AdmitInput), TagAdmitInputHeaders, "\x01", "tlv tag 8: wanted 2 bytes, have 1")
	f(new(AdmitInput), TagAdmitInputHeaders, "\x03\x00ab", "tlv tag 8: wanted 3 bytes, have 2")
}

func TestUnknownConstantHooksAreSkipped(t *testing.T) {
	var s Shape
	if err := s.Decode([]byte{TagShapeConstant, 0, 1, 0, NumHooks, TagShapeConstant, 0, 1, 0, 1}); err != nil || !reflect.DeepEqual(s.Constant, []Hook{Classify}) {
		t.Errorf("%v, %v", s.Constant, err)
	}
}

func TestOverlongValuesExceedTheInputLimit(t *testing.T) {
	long := strings.Repeat("x", 1<<17)
	for _, m := range []message{
		&ConfigureInput{Config: []byte(long)},
		&AdmitInput{Query: long},
		&AdmitInput{Headers: []Header{{"a", long}}},
		&AdmitInput{Headers: []Header{{long, "a"}}},
	} {
		b := m.AppendTo(nil)
		if len(b) <= MaxInput {
			t.Errorf("%T: %d bytes pass as an input", m, len(b))
		}
		if err := m.Decode(b); err != nil {
			t.Errorf("%T: %v", m, err)
		}
	}
}

func TestCodecDoesNotAllocate(t *testing.T) {
	in := ClassifyInput{Route: "", Direction: ToClient, Key: []byte("presence")}
	rule := Rule{Class: Droppable, Priority: 3, MaxSize: 10}
	buf := make([]byte, 0, 256)
	n := testing.AllocsPerRun(100, func() {
		buf = in.AppendTo(buf[:0])
		_ = in.Decode(buf)
		buf = rule.AppendTo(buf[:0])
		_ = rule.Decode(buf)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestResultPacks(t *testing.T) {
	r := MakeResult(MaxOutput, StatusGuest+1, CacheGeneration)
	if r != 0xFFFF_0101_0000_2000 || r.Len() != MaxOutput || r.Status() != 257 || r.Cache() != CacheGeneration {
		t.Errorf("%#x: %d %d %d", uint64(r), r.Len(), r.Status(), r.Cache())
	}
}

func TestDefaultFaultFollowsTheCatalogueThenTheStatus(t *testing.T) {
	f := func(code FaultCode, status uint16, retryable bool) {
		t.Helper()
		if got := DefaultFault(&FaultInput{Code: code, Status: status}); got.Retryable != retryable {
			t.Errorf("%s %d: retryable %t", code, status, got.Retryable)
		}
	}
	f(PayloadTooLarge, 503, false)
	f(InboxFull, 400, true)
	f("", 429, true)
	f("", 500, true)
	f("", 408, false)
	f("", 501, false)
	f("", 505, false)
	f("", 400, false)
}

// FuzzMessages decodes arbitrary bytes as every message: what decodes must
// survive a round trip unchanged, and nothing may panic.
func FuzzMessages(f *testing.F) {
	for i, s := range samples {
		f.Add(uint8(i), s.full.AppendTo(nil))
	}
	f.Add(uint8(1), []byte{TagShapeConstant, 0, 1, 0, 0xFF})
	f.Add(uint8(3), []byte{TagRuleMaxSize, 0, 8, 0, 1})
	f.Add(uint8(4), []byte{TagAdmitInputHeaders, 0, 3, 0, 9, 0, 'a'})
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		zero := samples[int(which)%len(samples)].zero
		first, second := zero(), zero()
		if first.Decode(b) != nil {
			return
		}
		enc := first.AppendTo(nil)
		if err := second.Decode(enc); err != nil {
			t.Fatalf("%+v: % x: %v", first, enc, err)
		}
		if again := second.AppendTo(nil); !bytes.Equal(enc, again) {
			t.Fatalf("% x, then % x", enc, again)
		}
	})
}

// FuzzNext splits arbitrary bytes: what it takes apart, AppendTLV puts
// together again.
func FuzzNext(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0, 'a', 'b', 2, 0, 0, 0})
	f.Add([]byte{1, 0, 2})
	f.Add([]byte{1, 0, 0xFF, 0xFF, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		for rest := b; len(rest) > 0; {
			tag, v, r, err := Next(rest)
			if err != nil {
				again = append(again, rest...)
				break
			}
			again = AppendTLV(again, tag, v)
			rest = r
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("% x became % x", b, again)
		}
	})
}
