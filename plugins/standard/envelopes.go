package main

import (
	"slices"
	"strconv"
	"strings"

	"weir/hostabi"
	"weir/plugins/sdk/go"
	"weir/plugins/sdk/go/conf"
)

// envelopes are what peers are told about faults and gaps.
type envelopes struct {
	http, websocket template // without text: the native one
	gap             string
	to              map[string]hostabi.Recipient // by fault code
}

type template struct{ text, contentType string }

// gapNotice is the envelope of gap_notice = true.
const gapNotice = `{"type":"gap","dropped":{{count}}}`

// maxKeep is how many fields a host keeps for envelopes (ABI.md §6.1).
const maxKeep = 16

func (e *envelopes) read(c *conf.Table, shape *sdk.Shape) {
	if c.IsTable("error_format") {
		t := c.Table("error_format")
		e.http = template{t.String("http", ""), t.String("content_type", hostabi.JSONType)}
		e.websocket = template{t.String("websocket", ""), ""}
		if e.http.text == "" && e.websocket.text == "" {
			t.Fail("http", "error_format needs a template for http, websocket or both")
		}
		if e.http.text == "" && t.Has("content_type") {
			t.Fail("content_type", "only a template for http has a content type")
		}
		keepFields(t, "http", e.http.text, shape)
		keepFields(t, "websocket", e.websocket.text, shape)
	} else if c.OneOf("error_format", "problem+json", "json") == "json" {
		e.http = template{hostabi.EventTemplate, hostabi.JSONType}
	}
	if c.IsString("gap_notice") {
		if e.gap = c.String("gap_notice", ""); e.gap == "" {
			c.Fail("gap_notice", "is empty; leave it out for no notice")
		}
		keepFields(c, "gap_notice", e.gap, shape)
	} else if c.Bool("gap_notice", false) {
		e.gap = gapNotice
	}
	to := c.Table("error_to")
	e.to = make(map[string]hostabi.Recipient)
	told := false
	for _, code := range to.Keys() {
		if _, ok := hostabi.Lookup(hostabi.FaultCode(code)); !ok {
			why := "is not a fault code"
			if !told { // once
				why += " (known: " + faultCodes() + ")"
				told = true
			}
			to.Fail(code, why)
		}
		e.to[code] = recipients[to.OneOf(code, "sender", "receiver", "nobody")]
	}
	if e.http.text == "" && e.websocket.text == "" && e.gap == "" && len(e.to) == 0 {
		shape.Constant = append(shape.Constant, hostabi.ErrorHook)
	}
}

// faultCodes lists the codes of the catalogue for a message.
func faultCodes() string {
	codes := make([]string, len(hostabi.Catalogue))
	for i, f := range hostabi.Catalogue {
		codes[i] = string(f.Code)
	}
	return strings.Join(codes, ", ")
}

var recipients = map[string]hostabi.Recipient{"sender": hostabi.ToSender, "receiver": hostabi.ToReceiver, "nobody": hostabi.ToNobody}

// keepFields checks the slots of a template and adds the fields it quotes to
// the shape.
func keepFields(c *conf.Table, key, text string, shape *sdk.Shape) {
	if len(text) > hostabi.MaxTemplate {
		c.Fail(key, "template of "+strconv.Itoa(len(text))+" bytes exceeds "+strconv.Itoa(hostabi.MaxTemplate))
	}
	for {
		_, after, found := strings.Cut(text, "{{")
		if !found {
			return
		}
		slot, rest, closed := strings.Cut(after, "}}")
		if !closed {
			c.Fail(key, "the slot {{"+after+" is not closed by }}")
			return
		}
		text = rest
		name := strings.TrimPrefix(slot, "?")
		pointer, field := strings.CutPrefix(name, "field:")
		switch {
		case field:
			checkPointer(c, key, pointer)
			if !slices.Contains(shape.Keep, pointer) {
				shape.Keep = append(shape.Keep, pointer)
				if len(shape.Keep) == maxKeep+1 {
					c.Fail(key, "templates quote more than "+strconv.Itoa(maxKeep)+" fields")
				}
			}
		case !slices.Contains(hostabi.Slots, name):
			c.Fail(key, "unknown slot {{"+slot+"}}; known are "+strings.Join(hostabi.Slots, ", ")+" and field:/pointer")
		}
	}
}

func (e *envelopes) envelope(in *sdk.ErrorInput) (out sdk.ErrorOutput, a sdk.Answer) {
	if in.Code == hostabi.Gap {
		out.Template = e.gap
		return out, sdk.If(e.gap != "" && in.Transport == hostabi.WebSocket)
	}
	if in.Transport == hostabi.HTTP {
		out.Template, out.ContentType = e.http.text, e.http.contentType
		return out, sdk.If(out.Template != "")
	}
	out.Template = e.websocket.text
	if out.Template == "" {
		out.Template = hostabi.EventTemplate
	}
	to, directed := e.to[string(in.Code)]
	out.Recipient = to
	return out, sdk.If(directed || e.websocket.text != "")
}
