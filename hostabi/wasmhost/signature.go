package wasmhost

import "strings"

// signature is a function type as it stands in the binary, comparable.
type signature struct{ params, results string }

// sig builds a signature: i is i32, I is i64.
func sig(params, results string) signature {
	r := strings.NewReplacer("i", "\x7F", "I", "\x7E")
	return signature{r.Replace(params), r.Replace(results)}
}

// String is the signature as people write it: (i32, i32) -> i64.
func (s signature) String() string { return valueTypes(s.params) + " -> " + valueTypes(s.results) }

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

// isValueType says whether b is a value type of WebAssembly 2.0. All are one
// byte; later versions have longer ones.
func isValueType(b byte) bool { return b >= 0x7B && b <= 0x7F || b == 0x70 || b == 0x6F }

func kindName(kind byte) string {
	switch kind {
	case 0:
		return "function"
	case 1:
		return "table"
	case 2:
		return "memory"
	case 3:
		return "global"
	}
	return "thing of unknown kind"
}
