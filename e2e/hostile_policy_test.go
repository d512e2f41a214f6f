//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// calls is how many calls of a hook Weir has made, whatever came of them.
func (b *siege) calls(hook string) (n int) {
	for series, value := range b.metrics() {
		if strings.HasPrefix(series, `weir_policy_calls_total{hook="`+hook+`"`) {
			n += int(value)
		}
	}
	return n
}

// Ever new event keys: each tunnel has a budget of questions, the cache a size,
// and the messages pass all the same.
func TestRandomEventKeys(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	b := besiege(t, settings{urls: url, policy: `droppable = ["presence*"]`})
	b.withstands("event keys by the million", func(t *testing.T) {
		const tunnels, messages = 80, 12_500
		began, before := time.Now(), b.calls("classify")
		var all sync.WaitGroup
		for i := range tunnels {
			p := b.pair(t, conns)
			defer p.gone()
			var text strings.Builder
			for n := range messages {
				text.WriteString(frame(0x81, true, fmt.Sprintf(`{"type":"k%x","n":%d}`, i*messages+n, n)))
			}
			all.Go(func() { _, _ = io.WriteString(p.client, text.String()) })
			all.Go(func() {
				got := make([]byte, text.Len())
				if _, err := io.ReadFull(p.upstream.br, got); err != nil || string(got) != text.String() {
					t.Errorf("tunnel %d: %v; as they came: %v", i, err, string(got) == text.String())
				}
			})
		}
		all.Wait()
		// ABI.md §6.2: 64 at once and one more each second, 4,096 in all, and when
		// unused ones make room, after 10 s at the earliest, 100 more each second.
		seconds := int(time.Since(began).Seconds()) + 1
		asked, allowed := b.calls("classify")-before, tunnels*(64+seconds)
		if asked > allowed || asked > 4096+10+100*max(seconds-10, 0) || asked < 4000 {
			t.Errorf("%d guest calls for %d keys; %d tunnels may ask %d times, and the cache has room for 4096", asked, tunnels*messages, tunnels, allowed)
		}
		var policies []struct {
			Cached int `json:"cached_rules"`
		}
		if b.decode("/policies", &policies); policies[0].Cached > 4096 {
			t.Errorf("%d rules are cached", policies[0].Cached)
		}
	})
}

// An event key is what the first 4 KiB of a message say it is, however they are
// written; it is read once, without recursion.
func TestEventKeysThatHide(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	b := besiege(t, settings{urls: url, policy: `max_size = { note = 100 }`, limits: `max_message_size = "32MiB"`})
	pad := `,"pad":"` + strings.Repeat("x", 200) + `"}`
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	b.withstands("documents", func(t *testing.T) {
		p := b.pair(t, conns)
		defer p.gone()
		for _, c := range []struct {
			name, text string
			refused    bool // as a note above 100 bytes
		}{
			{"plain", `{"type":"note"` + pad, true},
			{"behind white space", "\n\t {\r\n \"type\" \t: \"note\"" + pad, true},
			{"behind others", `{"a":1,"b":{"type":"x"},"c":["type"],"type":"note"` + pad, true},
			{"twice, the first counts", `{"type":"note","type":"x"` + pad, true},
			{"twice, the second does not", `{"type":"x","type":"note"` + pad, false},
			{"a thousand times", `{"type":"note"` + strings.Repeat(`,"type":"x"`, 1000) + pad, true},
			{"an escape in the name", `{"\u0074ype":"note"` + pad, true},
			{"every letter of the name escaped", `{"\u0074\u0079\u0070\u0065":"note"` + pad, true},
			{"an escape in the value", `{"type":"not\u0065"` + pad, true},
			{"every letter of the value escaped", `{"type":"\u006e\u006f\u0074\u0065"` + pad, true},
			{"another case", `{"Type":"note"` + pad, false},
			{"within an object", `{"x":{"type":"note"}` + pad, false},
			{"a value that only begins so", `{"type":"note2"` + pad, false},
			{"an array", `{"type":["note"]` + pad, false},
			{"an array around it", `[{"type":"note"` + pad + `]`, false},
			{"deep before it", `{"a":` + strings.Repeat("[", 1500) + strings.Repeat("]", 1500) + `,"type":"note"` + pad, true},
			{"100,000 deep before it", `{"a":` + deep + `,"type":"note"` + pad, false},
			{"100,000 deep behind it", `{"type":"note","a":` + deep + pad, true},
			{"100,000 deep and no end", strings.Repeat(`{"type":`, 100_000), false},
			{"a million names", `{"a":` + strings.Repeat(`1,"a":`, 1_000_000) + `1,"type":"note"` + pad, false},
			{"behind 16 MiB", `{"a":"` + strings.Repeat("x", 16*mib) + `","type":"note"` + pad, false},
			{"before 16 MiB", `{"type":"note","a":"` + strings.Repeat("x", 16*mib) + `"` + pad, true},
			{"a name of 16 MiB", `{"` + strings.Repeat("x", 16*mib) + `":1,"type":"note"` + pad, false},
			{"a value of 64 KiB", `{"type":"` + strings.Repeat("note", 16<<10) + `"` + pad, false},
			{"no JSON", strings.Repeat("\x00\"type\":\"note\"", 20), false},
			{"nothing but a quote", `"` + strings.Repeat("x", 200), false},
		} {
			for _, cut := range []int{0, 3, 11} { // also in two fragments
				wire := frame(0x81, true, c.text)
				if cut > 0 {
					wire = frame(0x01, true, c.text[:cut]) + frame(0x80, true, c.text[cut:])
				}
				written := make(chan error, 1)
				go func() {
					_, err := io.WriteString(p.client, wire+frame(0x81, true, "next"))
					written <- err
				}()
				if c.refused {
					if _, _, payload, err := p.client.anyFrame(); err != nil || decodeError(t, payload).Error.Limit != 100 {
						t.Errorf("%s: told %q, %v", c.name, payload, err)
					}
				} else {
					got := make([]byte, len(wire))
					if _, err := io.ReadFull(p.upstream.br, got); err != nil || string(got) != wire {
						t.Errorf("%s: the upstream received %.200q, %v", c.name, got, err)
					}
				}
				p.upstream.expect(c.name, "next")
				if err := receive(t, "the message to be sent", written); err != nil {
					t.Error(err)
				}
				for _, end := range []*raw{p.client, p.upstream} {
					_ = end.SetDeadline(time.Now().Add(patience))
				}
			}
		}
	})
}

// A fault in every message of a hundred connections at once: the envelopes come
// from templates, each is counted, and the log has a few lines that say how many
// they stand for.
func TestAFaultInEveryMessage(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	b := besiege(t, settings{urls: url, policy: `max_size = { note = 100 }
error_format = { websocket = '{"type":"error","id":{{field:/id}},"error":{"code":{{code}},"limit":{{limit}},"actual":{{actual}}}}' }`})
	b.withstands("refusals by the hundred thousand", func(t *testing.T) {
		const tunnels, messages = 100, 2000
		began := time.Now()
		asked := map[string]int{"error": b.calls("error"), "classify": b.calls("classify")}
		faults := b.metric(`weir_faults_total{code="payload_too_large"}`)
		pairs := make([]pair, tunnels)
		var all sync.WaitGroup
		for i := range pairs {
			p := b.pair(t, conns)
			defer p.gone()
			pairs[i] = p
			var text strings.Builder
			want := make([]string, messages)
			for n := range messages {
				note := fmt.Sprintf(`{"type":"note","id":"%d-%d","pad":"%0200d"}`, i, n, 0)
				want[n] = fmt.Sprintf(`{"type":"error","id":"%d-%d","error":{"code":"payload_too_large","limit":100,"actual":%d}}`, i, n, len(note))
				text.WriteString(frame(0x81, true, note))
			}
			all.Go(func() { _, _ = io.WriteString(p.client, text.String()) })
			all.Go(func() {
				for _, want := range want {
					if _, _, payload, err := p.client.anyFrame(); err != nil || payload != want {
						t.Errorf("tunnel %d was told %q, %v; want %s", i, payload, err, want)
						return
					}
				}
			})
		}
		all.Wait()
		sent := tunnels * messages
		for hook, before := range asked {
			if n := b.calls(hook) - before; n > 1 {
				t.Errorf("%d guest calls of %s for %d refusals", n, hook, sent)
			}
		}
		if n := int(b.metric(`weir_faults_total{code="payload_too_large"}`) - faults); n != sent {
			t.Errorf("%d faults counted, %d told", n, sent)
		}
		// What was suppressed last is told with the next line, or by one of its own.
		p, last := pairs[0], frame(0x81, true, fmt.Sprintf(`{"type":"note","id":"last","pad":"%0200d"}`, 0))
		lines := 0
		eventually(t, "every refusal to be told of in the log", func() bool {
			p.client.send(last)
			p.client.frame()
			sent++
			told := 0
			refused := b.logs.all("level=WARN", "msg=refused", "code=payload_too_large")
			for _, l := range refused {
				told += 1 + l.number("suppressed")
			}
			rest := b.logs.all("level=WARN", `msg=faults suppressed`, "code=payload_too_large")
			for _, l := range rest {
				told += l.number("suppressed")
			}
			lines = len(refused) + len(rest)
			return told == sent
		})
		if most := 20 + 10*(int(time.Since(began).Seconds())+1); lines > most {
			t.Errorf("%d lines for %d refusals in %v, at most %d are allowed", lines, sent, time.Since(began), most)
		}
	})
}
