//go:build e2e

package e2e

import (
	"io"
	"strings"
	"testing"
)

// A million fragments of one byte are one message: delivered as they came when
// it is within the limit, refused once when it is not.
func TestAMillionFragments(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	b := besiege(t, settings{native: true, urls: url})
	const n = 1_000_000
	for way, by := range sides {
		masked := way == 0
		message := frame(0x01, masked, "x") + strings.Repeat(frame(0x00, masked, "x"), n-2) + frame(0x80, masked, "x")
		b.withstands("within the limit, "+by, func(t *testing.T) {
			p := b.pair(t, conns)
			defer p.gone()
			from, to, _ := p.ends(way)
			go func() { _, _ = io.WriteString(from, message) }()
			got := make([]byte, len(message))
			if _, err := io.ReadFull(to.br, got); err != nil || string(got) != message {
				t.Errorf("%v; %d bytes, as they came: %v", err, len(got), string(got) == message)
			}
		})
		b.withstands("above the limit, "+by, func(t *testing.T) {
			defer besieged(t, b, `max_message_size = "100KiB"`)()
			p := b.pair(t, conns)
			defer p.gone()
			from, to, _ := p.ends(way)
			go func() { _, _ = io.WriteString(from, message+frame(0x81, masked, "next")) }()
			if _, _, payload, _ := from.anyFrame(); decodeError(t, payload).Error.Code != "payload_too_large" {
				t.Errorf("told %s", payload)
			}
			to.expect("behind a refused message", "next")
		})
	}
}

// besieged changes the limits for a while.
func besieged(t *testing.T, b *siege, limits ...string) (back func()) {
	t.Helper()
	before := b.settings
	set := func(s settings) {
		t.Helper()
		b.configure(s)
		if status, body := b.ask("POST", "/reload"); status != 200 {
			t.Fatalf("reload: %d %s", status, body)
		}
	}
	changed := before
	changed.limits = strings.Join(limits, "\n")
	set(changed)
	return func() { set(before) }
}

// Messages that are begun by many and ended by nobody are bounded together by
// max_memory, and each by its own limit.
func TestFragmentsThatNeverEnd(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	b := besiege(t, settings{native: true, urls: url, limits: "max_message_size = \"4MiB\"\nmax_memory = \"16MiB\""})
	b.withstands("fragments that never end", func(t *testing.T) { unfinishedMessages(t, b, conns) })
	b.withstands("frames that stop before their end", func(t *testing.T) { unfinishedFrames(t, b, conns) })
	b.withstands("one that goes on for ever", func(t *testing.T) { endlessMessages(t, b, conns) })
}

// unfinishedMessages are begun, and take what memory there is while their end is awaited.
func unfinishedMessages(t *testing.T, b *siege, conns <-chan *raw) {
	const n, each = 20, 3 * mib
	before := b.resident()
	part := frame(0x00, true, strings.Repeat("x", 60_000))
	refused := 0
	for range n {
		p := b.pair(t, conns)
		defer p.gone()
		go func() {
			_, _ = io.WriteString(p.client, frame(0x01, true, "x")+strings.Repeat(part, each/60_000))
			_, _ = io.WriteString(p.client, frame(0x89, true, "all")) // passes what is held
		}()
		for {
			op, _, payload, err := p.upstream.anyFrame()
			if err != nil {
				t.Fatal(err)
			}
			if op == 0x89 && payload == "all" {
				break
			}
		}
		p.upstream.send(frame(0x8A, false, "all"))
		op, payload := p.client.frame()
		if op == 0x81 {
			if e := decodeError(t, payload); e.Error.Code != "pending_limit" || !e.Error.Retryable {
				t.Errorf("told %s", payload)
			}
			refused++
			op, payload = p.client.frame()
		}
		if op != 0x8A || payload != "all" {
			t.Errorf("%x %.100q", op, payload)
		}
	}
	b.works("while memory is used up")
	// 16 MiB are room for five at most; what grows is copied and collected.
	if grown := b.resident() - before; refused < n-6 || grown > 96*mib {
		t.Errorf("%d of %d were refused; %d MiB more are resident", refused, n, grown/mib)
	}
}

// unfinishedFrames lack their last byte, until it comes.
func unfinishedFrames(t *testing.T, b *siege, conns <-chan *raw) {
	before := b.resident()
	var all []pair
	for {
		c := dialRaw(t, b.addr)
		c.send(upgrade("/"))
		if resp := c.head("GET"); resp.StatusCode != 101 {
			if resp.StatusCode != 503 {
				t.Errorf("refused with %s", resp.Status)
			}
			break
		}
		up := receive(t, "the upstream", conns)
		up.t = t
		p := pair{c, up}
		defer p.gone()
		c.send(frame(0x89, true, "seen") + frameOf(0x82, true, 60_000, strings.Repeat("x", 59_999)))
		if _, _, payload, err := up.anyFrame(); payload != "seen" || err != nil {
			t.Fatalf("%q, %v", payload, err)
		}
		all = append(all, p)
	}
	// Each waits in a buffer of 64 KiB, and nothing new begins in the last eighth,
	// or 64 KiB, of 16 MiB.
	if n := len(all); n < 200 || n > 16*mib/(64<<10) {
		t.Errorf("%d tunnels were let in", n)
	}
	b.works("while many wait for their ends")
	if grown := b.resident() - before; grown > 64*mib {
		t.Errorf("%d MiB more are resident for %d frames of 60 kB", grown/mib, len(all))
	}
	if n := b.metric("weir_queue_bytes"); n != 0 {
		t.Errorf("%v bytes are queued", n)
	}
	for _, p := range all {
		p.client.send("x")
		if op, _, payload, err := p.upstream.anyFrame(); err != nil || op != 0x82 || len(payload) != 60_000 {
			t.Fatalf("%x, %d bytes, %v", op, len(payload), err)
		}
	}
}

// endlessMessages are not drained for ever either.
func endlessMessages(t *testing.T, b *siege, conns <-chan *raw) {
	defer besieged(t, b, `max_message_size = "64KiB"`)()
	for way, by := range sides {
		p := b.pair(t, conns)
		from, to, masked := p.ends(way)
		go func() { // ends with the connection
			_, _ = io.WriteString(from, frame(0x02, masked, ""))
			for part := frame(0x00, masked, strings.Repeat("x", 50_000)); ; {
				if _, err := io.WriteString(from, part); err != nil {
					return
				}
			}
		}()
		if _, _, payload, _ := from.anyFrame(); decodeError(t, payload).Error.Code != "payload_too_large" {
			t.Errorf("%s: told %s", by, payload)
		}
		if op, _, payload, err := from.anyFrame(); err == nil && (op != 0x88 || !strings.HasPrefix(payload, closing(1009, ""))) {
			t.Errorf("%s: %x %.100q", by, op, payload)
		}
		to.closed(by, 1009, "payload_too_large")
		p.gone()
	}
}

// Control frames pass, however many; toward a peer that does not read they wait
// like everything else, and then end the tunnel.
func TestControlFrameFloods(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	b := besiege(t, settings{native: true, urls: url, limits: `slow_consumer_grace = "1s"`})
	for way, by := range sides {
		masked := way == 0
		b.withstands("a flood that is read, "+by, func(t *testing.T) {
			p := b.pair(t, conns)
			defer p.gone()
			from, to, _ := p.ends(way)
			pings := strings.Repeat(frame(0x89, masked, "ping")+frame(0x8A, masked, "")+frame(0x89, masked, strings.Repeat("x", 125)), 100_000)
			go func() { _, _ = io.WriteString(from, pings+frame(0x81, masked, "end")) }()
			got := make([]byte, len(pings))
			if _, err := io.ReadFull(to.br, got); err != nil || string(got) != pings {
				t.Errorf("%v; as they came: %v", err, string(got) == pings)
			}
			to.expect("behind the flood", "end")
		})
		b.withstands("a flood that nobody reads, "+by, func(t *testing.T) {
			p := b.pair(t, conns)
			defer p.gone()
			from, _, _ := p.ends(way)
			before := b.resident()
			written := make(chan error)
			go func() {
				var err error
				for flood := strings.Repeat(frame(0x89, masked, strings.Repeat("x", 125)), 10_000); err == nil; {
					_, err = io.WriteString(from, flood)
				}
				written <- err
			}()
			b.logs.waitFor("the end of the flood", way+1, "msg=closed", "code=1013", "fault=slow_consumer")
			if grown := b.resident() - before; grown > 32*mib {
				t.Errorf("%d MiB more are resident", grown/mib)
			}
			p.gone()
			if err := receive(t, "the flood to end", written); isTimeout(err) {
				t.Error(err)
			}
		})
	}
}
