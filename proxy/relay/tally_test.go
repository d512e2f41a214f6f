package relay

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
	"weir/proxy/policy"
	"weir/proxy/policy/policytest"
)

// kinds of messages that a part is made of, in turn; the first is said whether every
// other one is droppable, see part.
var kinds = [][]string{
	{"critical"},
	{"critical", "presence", "pp", "state"},
	{"critical", "small", "presence"}, // small ones are always refused
	{"state", "state", "critical"},
}

// text is the message of that id.
func (p *part) text(id, n int) string {
	of := kinds[p.kinds]
	kind := of[id%len(of)]
	if p.kinds == 0 && p.droppable && id%2 > 0 {
		kind = "presence"
	}
	more := fmt.Sprintf(`,"of":%d`, id%3)
	if p.kinds > 0 && id%4 == 1 {
		more += `,"seq":1` // which a presence is not shed with
	}
	return event(kind, id, n, more)
}

// optional reports whether a message may be given up under the policy.
func optional(text string) bool {
	return strings.HasPrefix(text, `{"type":"pp`) || strings.HasPrefix(text, `{"type":"state`) ||
		strings.HasPrefix(text, `{"type":"presence`) && !strings.Contains(text[:min(60, len(text))], `"seq"`)
}

// telling is the policy events with envelopes that name the refused message.
func telling(t testing.TB, to hostabi.Recipient) *policy.Policy {
	return events(t, func(f *policytest.Funcs) {
		gap := f.Error
		f.Error = func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, bool) {
			if in.Code == hostabi.Gap || in.Transport != hostabi.WebSocket {
				return gap(in)
			}
			return hostabi.ErrorOutput{Template: `{"refused":{{field:/id}},"code":{{code}}}`, Recipient: to}, true
		}
	})
}

func recipient(receiver bool) hostabi.Recipient {
	if receiver {
		return hostabi.ToReceiver
	}
	return hostabi.ToSender
}

// number returns what follows name in the first bytes of a message.
func number(text, name string) (n int, found bool) {
	text = text[:min(len(text), 60)]
	at := strings.Index(text, name)
	if at < 0 {
		return 0, false
	}
	_, err := fmt.Sscanf(text[at+len(name):], "%d", &n)
	return n, err == nil
}

// ofWeir reports whether a message is an envelope or a notice.
func ofWeir(text string) bool {
	return strings.HasPrefix(text, `{"type":"error"`) || strings.HasPrefix(text, `{"refused"`) || strings.HasPrefix(text, `{"gap"`)
}

// order is where the last of something stood in what the other peer said.
type order struct{ place, ping, told int }

// holds reports whether what comes stands behind what came: a message, or in its place
// its envelope, or a ping, which names the message it was sent behind or inside.
func (o *order) holds(what string, inPlace bool) bool {
	var id, serial int
	if n, _ := fmt.Sscanf(what, "ping %d behind %d", &serial, &id); n == 2 {
		ok := serial > o.ping && 2*id+3 >= o.place
		o.ping, o.place = serial, 2*id+3
		return ok
	}
	id, refused := number(what, `"refused":`)
	if refused && !inPlace {
		ok := id+1 > o.told
		o.told = id + 1
		return ok
	}
	if refused { // as soon as enough has come of it: before a ping inside it
		ok := 2*id+2 > o.place
		o.place = 2*id + 1
		return ok
	}
	if id, found := number(what, `"id":`); found {
		ok := 2*id+2 > o.place
		o.place = 2*id + 2
		return ok
	}
	return true
}

// account holds what became of the messages of direction d, of which missing have not
// come, to what is counted and what was told. whole: all have had to arrive.
func (p *play) account(d hostabi.Direction, missing []string, whole bool, fail func(string, ...any)) {
	from, to := p.actors[d], p.actors[d^1]
	f := p.Info().Flow[d]
	told, heard := 0, from
	if p.toReceiver {
		heard = to
	}
	lacks := map[int]bool{}
	for _, m := range missing {
		id, _ := number(m, `"id":`)
		lacks[id] = true
	}
	for _, g := range heard.got {
		switch id, found := number(g, `"refused":`); {
		case found:
			if id < len(from.sent) && !lacks[id] {
				fail("was sent message %d, or told of it before, and it was refused: %s", id, g)
			}
			delete(lacks, id)
			told++
		case strings.HasPrefix(g, `{"type":"error"`) && !strings.Contains(g, "upstream_closed"):
			told++
		}
	}
	gaps := 0
	for _, g := range to.got {
		n, _ := number(g, `{"gap":`)
		gaps += n
	}
	if int64(gaps) > f.Shed || int64(told) > f.Refused {
		fail("notices tell of %d, %d were shed; %d are told to be refused, %d were", gaps, f.Shed, told, f.Refused)
	}
	if !whole {
		return
	}
	if from.partly != "" && f.Refused > 0 {
		return // it may be one of these
	}
	if int64(len(missing)) != f.Shed+f.Conflated+f.Refused {
		fail("%d are missing: %d shed, %d conflated, %d refused", len(missing), f.Shed, f.Conflated, f.Refused)
	}
	if p.ruled && int64(gaps) != f.Shed {
		fail("notices tell of %d, %d were shed", gaps, f.Shed)
	}
	if (p.toReceiver && p.ruled || from.first && !from.rude && !to.first && !to.rude && !p.fell && !from.silent.Load() && !from.stopsLong()) && int64(told) != f.Refused {
		fail("%d are told to be refused, %d were", told, f.Refused)
	}
	for _, m := range missing {
		if f.Refused == 0 && (int64(len(m)) <= p.message || p.utf8) && (!p.ruled || !optional(m)) {
			fail("%d of %d have not come, among them %.50q", len(missing), len(from.sent), m)
			break
		}
	}
}

// taken holds what the receiver of direction d took when the tunnel had ended to what
// was beyond recall by then.
func (p *play) taken(d hostabi.Direction, whole bool, fail func(string, ...any)) {
	from, to := p.actors[d], p.actors[d^1]
	if to.kernel == 0 {
		return
	}
	beyond := to.atEnd + to.kernel + p.record
	if begun := to.taken - len(to.held); whole && from.ends == cuts && len(to.held) > 0 && begun > beyond {
		fail("took %d bytes of a message that was cut short, behind %d, when %d were beyond recall", len(to.held), begun, beyond)
	}
	if p.cause.skip[d^1] && to.taken > beyond+slices.Max(append(from.sizes, 20_000))+controlCeiling+2000 {
		fail("is a slow consumer and received %d bytes, when %d were beyond recall", to.taken, beyond)
	}
}

// within returns in how long the tunnel has to have ended, counted from its first
// cause; 0: as long as its peers take something.
func (p *play) within() time.Duration {
	for d := range p.parts {
		if part := &p.parts[d]; len(part.sizes) > 0 || part.reads != fast || part.ends == hangs {
			return 0
		}
	}
	return closeTimeout + 2*lingerTimeout + time.Second
}
