package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"

	"weir/hostabi"
)

// valid tells whether out is a right output for the sample's hook.
func valid(s sample, out []byte, shape *hostabi.Shape) error {
	switch s.hook {
	case hostabi.Classify:
		var m hostabi.Rule
		return errors.Join(m.Decode(out), pointer("Unless", m.Unless), pointer("Conflate", m.Conflate))
	case hostabi.Admit:
		var m hostabi.AdmitOutput
		err := m.Decode(out)
		if _, ok := hostabi.Lookup(m.Code); err == nil && m.Code != "" && !ok {
			err = fmt.Errorf("code %q is not in the catalogue", m.Code)
		}
		return err
	case hostabi.FramingHook:
		return new(hostabi.FramingOutput).Decode(out)
	case hostabi.FaultHook:
		return new(hostabi.FaultOutput).Decode(out)
	}
	var m hostabi.ErrorOutput
	if err := m.Decode(out); err != nil {
		return err
	}
	return validEnvelope(&s.err, &m, shape)
}

func pointer(field, p string) error {
	if len(p) > hostabi.MaxPointer {
		return fmt.Errorf("%s of %d bytes exceeds %d", field, len(p), hostabi.MaxPointer)
	}
	if p == "" || strings.HasPrefix(p, "/") {
		return nil
	}
	return fmt.Errorf("%s %q is not a pointer", field, p)
}

// validEnvelope holds an envelope to ABI.md §6.6 and §7.2.
func validEnvelope(in *hostabi.ErrorInput, m *hostabi.ErrorOutput, shape *hostabi.Shape) error {
	if s := m.Status; s != 0 && (s < 200 || s > 599 || s == 204 || s == 205 || s == 304) {
		return fmt.Errorf("status %d cannot carry an envelope", s)
	}
	if c := m.Close; c != 0 && (c < 1000 || c > 4999 || c >= 1004 && c <= 1006 || c > 1014 && c < 3000) {
		return fmt.Errorf("close code %d may not be sent", c)
	}
	if m.Template == "" {
		return nil
	}
	if len(m.Template) > hostabi.MaxTemplate {
		return fmt.Errorf("template of %d bytes exceeds %d", len(m.Template), hostabi.MaxTemplate)
	}
	full, err := fill(m.Template, shape.Keep, true)
	if err != nil {
		return err
	}
	least, _ := fill(m.Template, shape.Keep, false)
	if !mustBeJSON(in, m) {
		return nil
	}
	for _, text := range []string{full, least} {
		if !json.Valid([]byte(text)) {
			return fmt.Errorf("envelope is not JSON: %s", text)
		}
	}
	return nil
}

// mustBeJSON tells whether an envelope must be JSON.
func mustBeJSON(in *hostabi.ErrorInput, m *hostabi.ErrorOutput) bool {
	if m.ContentType == "" {
		return in.Transport == hostabi.HTTP || !m.Binary && (strings.HasPrefix(m.Template, "{") || strings.HasPrefix(m.Template, "["))
	}
	media, _, _ := mime.ParseMediaType(m.ContentType)
	return strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}

// fill puts a number into every slot; optional ones are left out unless all.
func fill(template string, keep []string, all bool) (string, error) {
	var text strings.Builder
	for {
		literal, after, found := strings.Cut(template, "{{")
		text.WriteString(literal)
		if !found {
			return text.String(), nil
		}
		name, rest, closed := strings.Cut(after, "}}")
		if !closed {
			return "", fmt.Errorf("the slot {{%.40s is not closed", after)
		}
		template = rest
		name, optional := strings.CutPrefix(name, "?")
		field, isField := strings.CutPrefix(name, "field:")
		switch {
		case isField && !slices.Contains(keep, field):
			return "", fmt.Errorf("slot {{%s}}: the shape does not keep %q", name, field)
		case !isField && !slices.Contains(hostabi.Slots, name):
			return "", fmt.Errorf("unknown slot {{%s}}", name)
		case !optional:
			text.WriteString("1")
		case all:
			member := name[strings.LastIndexAny(name, ":/")+1:]
			fmt.Fprintf(&text, ",%q:1", member)
		}
	}
}
