package wasm

import "strings"

// Signature is a function type as it stands in the binary: a byte for each value
// type. It is comparable.
type Signature struct{ Params, Results string }

// Sig builds a signature: i is i32, I is i64.
func Sig(params, results string) Signature {
	r := strings.NewReplacer("i", "\x7F", "I", "\x7E")
	return Signature{r.Replace(params), r.Replace(results)}
}

// String is the signature as people write it: (i32, i32) -> i64.
func (s Signature) String() string { return valueTypes(s.Params) + " -> " + valueTypes(s.Results) }

func valueTypes(b string) string {
	names := make([]string, len(b))
	for i := range b {
		names[i] = valueType(b[i])
	}
	return "(" + strings.Join(names, ", ") + ")"
}

func valueType(b byte) string {
	switch b {
	case 0x7F:
		return "i32"
	case 0x7E:
		return "i64"
	case 0x7D:
		return "f32"
	case 0x7C:
		return "f64"
	case 0x7B:
		return "v128"
	case 0x70:
		return "funcref"
	case 0x6F:
		return "externref"
	}
	return "?"
}

// IsValueType says whether b is a value type of WebAssembly 2.0. All are one
// byte; later versions have longer ones.
func IsValueType(b byte) bool { return b >= 0x7B && b <= 0x7F || b == 0x70 || b == 0x6F }
