package relay

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/wsframe"
)

func validating(l *config.Limits) { l.ValidateUTF8 = true }

// notText are text messages that are not UTF-8, as frames of the peer p.
var notText = []struct {
	name  string
	bytes func(p *peer) []byte
}{
	{"whole", func(p *peer) []byte { return p.frame(true, wsframe.Text, "a\xC3(") }},
	{"cut at its end", func(p *peer) []byte { return p.frame(true, wsframe.Text, "a\xE2\x82") }},
	{"larger than what is unmasked at once", func(p *peer) []byte {
		return p.frame(true, wsframe.Text, strings.Repeat("€", 3000)+"\xFF"+strings.Repeat("x", 3000))
	}},
	{"a character cut by the end of its message, not of its fragment", func(p *peer) []byte {
		return append(p.frame(false, wsframe.Text, "\xE2"), append(p.frame(false, wsframe.Continuation, "\x82\xACok\xE2"), p.frame(true, wsframe.Continuation, "\x82")...)...)
	}},
	{"in the second fragment", func(p *peer) []byte {
		return append(p.frame(false, wsframe.Text, "\xE2"), p.frame(false, wsframe.Continuation, "x")...)
	}},
	{"ended by an empty fragment", func(p *peer) []byte {
		return append(p.frame(false, wsframe.Text, "\xE2\x82"), p.frame(true, wsframe.Continuation, "")...)
	}},
}

// Text that is not UTF-8 ends the tunnel with 1007, both peers are told, and
// nothing of it is passed on; what came before it is.
func TestTextMustBeUTF8(t *testing.T) {
	for _, c := range notText {
		for way := range 2 {
			t.Run(c.name, func(t *testing.T) {
				inTunnel(t, func(r *rig) {
					from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
					from.raw(append(from.frame(true, wsframe.Text, "before \U0001F600"), c.bytes(from)...))
					to.expect("before \U0001F600")
					for _, p := range []*peer{from, to} {
						p.closed(1007, "protocol_error: text message is not UTF-8, its first ")
					}
					<-r.ended
					faults, dropped := r.metric("weir_faults_total", "protocol_error"), r.metric("weir_messages_dropped_total", "invalid")
					if faults != 1 || dropped != 1 {
						t.Errorf("%v faults and %v invalid messages counted, want 1", faults, dropped)
					}
					if n := r.metric("weir_ws_closes_total", "1007", "weir"); n != 1 || !strings.Contains(r.log.String(), "code=1007") {
						t.Errorf("%v closes 1007 counted, want 1:\n%s", n, r.log)
					}
				}, with(validating))
			})
		}
	}
}

// Fragments cut characters anywhere, control frames come between, and bytes
// arrive one by one: UTF-8 it is all the same. What is not text is not looked
// at.
func TestUTF8HoweverItIsCut(t *testing.T) {
	const said = "aé€😀z"
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			for cut := range len(said) {
				frames := append(from.frame(false, wsframe.Text, said[:cut]), from.frame(true, wsframe.Ping, "\xFF")...)
				frames = append(frames, from.frame(false, wsframe.Continuation, "")...)
				frames = append(frames, from.frame(true, wsframe.Continuation, said[cut:])...)
				for i := range frames {
					from.raw(frames[i : i+1])
					synctest.Wait()
				}
				// The ping does not wait for the message around it.
				to.expectFrame(got{wsframe.Ping, true, "\xFF"})
				to.expectFrame(got{wsframe.Text, false, said[:cut]})
				to.expectFrame(got{wsframe.Continuation, false, ""})
				to.expectFrame(got{wsframe.Continuation, true, said[cut:]})
			}
			from.raw(from.frame(true, wsframe.Binary, "\xFF"), from.frame(false, wsframe.Binary, "\xFF"), from.frame(true, wsframe.Continuation, "\xFF"))
			from.send("end")
			to.expectFrame(got{wsframe.Binary, true, "\xFF"})
			to.expectFrame(got{wsframe.Binary, false, "\xFF"})
			to.expectFrame(got{wsframe.Continuation, true, "\xFF"})
			to.expect("end")
		}, with(validating))
	}
}

// A large message is looked at as it passes: its receiver has a part of it and
// can be told nothing; its sender is.
func TestLargeTextMustBeUTF8(t *testing.T) {
	euros := strings.Repeat("€", large/3)
	for name, bad := range map[string]string{
		"inside": euros[:large/2] + "\xFF" + euros[large/2+1:], "at its last byte": euros[:large-1] + "x",
		"cut": "aa" + euros[:large-2],
	} {
		for way := range 2 {
			t.Run(name, func(t *testing.T) {
				inTunnel(t, func(r *rig) {
					from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
					from.raw(from.frame(true, wsframe.Text, euros))
					to.expect(euros)
					from.raw(from.frame(true, wsframe.Text, bad))
					from.closed(1007, "text message is not UTF-8")
					if g, err := to.next(); err != io.ErrUnexpectedEOF && err != syscall.ECONNRESET {
						t.Errorf("%s received %.100v, %v", to.name, g, err)
					}
					<-r.ended
					if f := r.Info().Flow[hostabi.Direction(way)]; f.Messages != 1 {
						t.Errorf("%d messages counted as passed on, want 1", f.Messages)
					}
				}, with(validating))
			})
		}
	}
	// Of one whose first bytes tell nothing was passed on: both are told.
	inTunnel(t, func(r *rig) {
		r.c.raw(r.c.frame(true, wsframe.Text, "\xFF"+euros[1:]))
		r.c.closed(1007, "text message is not UTF-8")
		r.u.closed(1007, "text message is not UTF-8")
	}, with(validating))
}

// What is refused is drained and answered, whatever bytes it has, and what
// follows is looked at again.
func TestRefusedTextIsNotLookedAt(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.send("\xFF" + strings.Repeat("x", 1000))
		r.c.refused(hostabi.PayloadTooLarge, 1000, 1001)
		r.c.raw(r.c.frame(false, wsframe.Text, "\xE2"), r.c.frame(true, wsframe.Continuation, strings.Repeat("\xFF", 1000)))
		r.c.refused(hostabi.PayloadTooLarge, 1000, 1001)
		r.c.send("fine")
		r.u.expect("fine")
		r.c.raw(r.c.frame(false, wsframe.Text, "\xE2"), r.c.frame(true, wsframe.Continuation, "\xFF"))
		r.u.closed(1007, "its first 2 bytes tell")
	}, maxMessage(1000), with(validating))
}

// The setting is the message's of the moment when it begins.
func TestValidateUTF8CanBeSwitched(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.send("\xFF")
		r.u.expect("\xFF")
		r.c.raw(r.c.frame(false, wsframe.Text, "\xFF"))
		synctest.Wait()
		set := *r.route.Load()
		validating(&set.Limits)
		r.route.Store(&set)
		r.c.raw(r.c.frame(true, wsframe.Continuation, "\xFE"))
		r.u.expectFrame(got{wsframe.Text, false, "\xFF"})
		r.u.expectFrame(got{wsframe.Continuation, true, "\xFE"})
		r.c.send("\xFF")
		r.u.closed(1007, "text message is not UTF-8")
	})
}
