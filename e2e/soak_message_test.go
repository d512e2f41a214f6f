//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// The soak's messages follow from the seed, the tunnel, the direction and their
// id alone: whoever misses one knows what it was.

// soakClass is what the policy of the soak makes of a message.
type soakClass uint8

const (
	critical  soakClass = iota // is never given up
	sequenced                  // of a droppable kind, with the field that forbids it
	droppable                  // may be shed, with a notice
	state                      // may also be replaced by a newer one, without
	oversize                   // is refused
)

// planned is one message of the soak.
type planned struct {
	class     soakClass
	kind      string // its type field
	name      string // of a state
	size      int    // at least
	fragments int
}

const (
	toUpstream = 0
	toClient   = 1

	soakMaxMessage = 256 << 10
)

func plan(seed int64, tunnel uint32, direction, id int) planned {
	r := rand.New(rand.NewPCG(uint64(seed), uint64(tunnel)<<33|uint64(direction)<<32|uint64(id)))
	p := planned{size: 60 + r.IntN(2000), fragments: 1}
	if r.IntN(20) == 0 {
		p.fragments = 2 + r.IntN(4)
	}
	switch n := r.IntN(1000); {
	case n < 450:
		p.class, p.kind = droppable, "presence"
	case n < 570:
		p.class, p.kind = droppable, "typing"
	case n < 750:
		p.class, p.kind = state, "cursor"
		p.name = "n" + strconv.Itoa(r.IntN(3))
	case n < 930:
		p.kind = "message"
	case n < 980:
		p.class, p.kind = sequenced, "presence"
	case n < 990: // passed on in parts
		p.kind, p.size = "message", 70_000+r.IntN(130_000)
	case n < 993:
		p.class, p.kind, p.size = oversize, "message", soakMaxMessage+r.IntN(200_000)
	case n < 995:
		p.class, p.kind, p.size = oversize, "presence", soakMaxMessage+r.IntN(200_000)
	default:
		p.kind, p.size = "message", 4000+r.IntN(20_000)
	}
	return p
}

var padding = bytes.Repeat([]byte("abcdefghijklmnopqrstuvwxyz0123456789"), 20_000)

// text is the message itself.
func (p *planned) text(direction, id int) []byte {
	b := make([]byte, 0, p.size+100)
	b = append(b, `{"type":"`...)
	b = append(b, p.kind...)
	b = append(b, `","id":`...)
	b = strconv.AppendInt(b, int64(id), 10)
	b = append(b, `,"from":`...)
	b = append(b, '0'+byte(direction))
	if p.class == sequenced {
		b = append(b, `,"seq":1`...)
	}
	if p.name != "" {
		b = append(b, `,"name":"`+p.name+`"`...)
	}
	b = append(b, `,"pad":"`...)
	b = append(b, padding[id%36:id%36+p.size]...)
	return append(b, `"}`...)
}

// happening is what a peer of a tunnel saw.
type happening struct {
	what  byte
	value int64
	text  string
}

const (
	sawMessage = 'm' // value: its id
	sawGap     = 'g' // value: how many were shed here
	sawFault   = 'f' // value: twice the id of the refused message, and its direction; text: code
	sawLost    = 'l' // value: count of an upstream_closed envelope
	sawClose   = 'c' // value: close code; text: reason
	sawEnd     = 'e' // of the connection; text: how
	sawWrong   = 'w' // text: what should not be
)

// recognise tells what a message that arrived is, in a direction.
func recognise(seed int64, tunnel uint32, direction int, text []byte) happening {
	var m struct {
		Type    string
		ID      int
		Dropped int64
		Error   struct {
			Code  string
			ID    int64
			From  int64
			Count int64
		}
	}
	if head, _, ok := bytes.Cut(text[:min(len(text), 100)], []byte(`,"pad":`)); ok {
		if err := json.Unmarshal(append(bytes.Clone(head), '}'), &m); err != nil || m.ID < 1 {
			return happening{sawWrong, 0, fmt.Sprintf("message %.100q: %v", text, err)}
		}
		p := plan(seed, tunnel, direction, m.ID)
		if !bytes.Equal(text, p.text(direction, m.ID)) {
			return happening{sawWrong, 0, fmt.Sprintf("message %d has changed: %.100q", m.ID, text)}
		}
		return happening{sawMessage, int64(m.ID), ""}
	}
	err := json.Unmarshal(text, &m)
	switch {
	case err == nil && m.Type == "gap" && m.Dropped > 0:
		return happening{sawGap, m.Dropped, ""}
	case err == nil && m.Type == "error" && m.Error.Code == "upstream_closed":
		return happening{sawLost, m.Error.Count, ""}
	case err == nil && m.Type == "error" && m.Error.Code != "" && m.Error.ID > 0:
		return happening{sawFault, m.Error.ID<<1 | m.Error.From, m.Error.Code}
	}
	return happening{sawWrong, 0, fmt.Sprintf("message %.200q: %v", text, err)}
}
