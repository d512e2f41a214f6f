//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// numbered is what flood sends, and the gap notice of the standard policy.
type numbered struct {
	Type    string
	ID      int
	Dropped int
}

func decodeNumbered(t *testing.T, text string) (m numbered) {
	t.Helper()
	// The driver quotes the beginning of a long message: the padding is last.
	if i := strings.Index(text, `,"pad":`); i >= 0 {
		text = text[:i] + "}"
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%.300q: %v", text, err)
	}
	return m
}

// slow is a tunnel whose client has stopped reading while its upstream sent
// count messages of the given types, and a last one.
func slow(t *testing.T, n *node, g *gateway, s *server, count, size int, types ...string) (client, upstream *peer) {
	t.Helper()
	client, upstream = n.pair(g, s, nil)
	client.pause()
	upstream.do("flood", args{"count": count, "size": size, "from": 1, "types": types})
	return client, upstream
}

// What is shed is exactly what the notices say, and they stand where it was.
func TestGapNoticesCountWhatWasShed(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url, policy: `droppable = ["presence", "typing"]
gap_notice = true`, limits: `max_buffered_bytes = "256KiB"
slow_consumer_grace = "10m"`})
	const count = 40_000
	client, upstream := slow(t, n, g, s, count, 1000, "presence", "typing", "presence")
	upstream.next("flooded")
	eventually(t, "messages to be shed", func() bool {
		ts := g.tunnels()
		return len(ts) == 1 && ts[0].Shed.ToClient > 0
	})
	client.do("resume", nil)
	upstream.send(`{"type":"message","id":40001}`)
	next, received, shed := 1, 0, 0
	for {
		m := decodeNumbered(t, client.message())
		if m.Type == "gap" {
			if m.Dropped < 1 {
				t.Errorf("a gap of %d", m.Dropped)
			}
			next += m.Dropped
			shed += m.Dropped
			continue
		}
		if m.ID != next {
			t.Fatalf("message %d where %d was due; %d received, %d told as shed", m.ID, next, received, shed)
		}
		next++
		if m.Type == "message" {
			break
		}
		received++
	}
	if received+shed != count || shed == 0 {
		t.Errorf("%d received and %d shed of %d", received, shed, count)
	}
	if n := g.metric(`weir_messages_dropped_total{reason="shed"}`); int(n) != shed {
		t.Errorf("counted %v, told %d", n, shed)
	}
	eventually(t, fmt.Sprintf("/connections to tell %d shed and %d passed", shed, received+1), func() bool {
		ts := g.tunnels()
		return len(ts) == 1 && int(ts[0].Shed.ToClient) == shed && int(ts[0].Messages.ToClient) == received+1
	})
	client.do("close", args{"code": 1000})
	closed := g.logs.wait("the close", "msg=closed")
	if closed["shed"] != float64(shed) {
		t.Errorf("logged %v", closed)
	}
}

// Critical messages are never shed: the upstream waits, and all arrive.
func TestCriticalMessagesWaitAndAllArrive(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url, policy: `droppable = ["presence"]
droppable_unless = "/id"
gap_notice = true`, limits: `max_buffered_bytes = "256KiB"
slow_consumer_grace = "10m"`})
	// Half of them are of a droppable kind, but have the field that forbids it.
	const count = 20_000
	client, _ := slow(t, n, g, s, count, 1000, "presence", "message")
	eventually(t, "the buffer to be full", func() bool {
		ts := g.tunnels()
		return len(ts) == 1 && ts[0].QueuedBytes.ToClient > 200<<10
	})
	if ts := g.tunnels(); ts[0].QueuedBytes.ToClient > 256<<10 {
		t.Errorf("%d bytes are queued, max_buffered_bytes is 256 KiB", ts[0].QueuedBytes.ToClient)
	}
	if n := g.metric("weir_queue_bytes"); n < 200<<10 {
		t.Errorf("weir_queue_bytes is %v", n)
	}
	client.do("resume", nil)
	for id := 1; id <= count; id++ {
		if m := decodeNumbered(t, client.message()); m.ID != id {
			t.Fatalf("%+v where %d was due", m, id)
		}
	}
	if n := g.metric(`weir_messages_dropped_total{reason="shed"}`); n != 0 {
		t.Errorf("%v were shed", n)
	}
	eventually(t, "the queue to be empty", func() bool { return g.metric("weir_queue_bytes") == 0 })
}

// Of states only the newest of each is kept.
func TestStatesAreConflated(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url, policy: `conflate = { cursor = "/type" }`, limits: `max_buffered_bytes = "64KiB"
slow_consumer_grace = "10m"`})
	const count = 40_000
	client, upstream := slow(t, n, g, s, count, 1000, "cursor")
	upstream.next("flooded")
	eventually(t, "states to be conflated", func() bool {
		return g.metric(`weir_messages_dropped_total{reason="conflated"}`) > 0
	})
	client.do("resume", nil)
	upstream.send(`{"type":"message","id":40001}`)
	last, received := 0, 0
	for {
		m := decodeNumbered(t, client.message())
		if m.ID <= last {
			t.Fatalf("%d after %d", m.ID, last)
		}
		if m.Type == "message" {
			break
		}
		last = m.ID
		received++
	}
	if last != count {
		t.Errorf("the newest state is %d, the client knows %d", count, last)
	}
	if n := int(g.metric(`weir_messages_dropped_total{reason="conflated"}`)); n != count-received {
		t.Errorf("counted %d, %d of %d are missing", n, count-received, count)
	}
	if n := g.metric(`weir_messages_dropped_total{reason="shed"}`); n != 0 {
		t.Errorf("%v were shed", n)
	}
}

func TestASlowConsumerIsClosed(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url, limits: `max_buffered_bytes = "64KiB"
slow_consumer_grace = "500ms"`})
	bystander, other := n.pair(g, s, nil)
	client, upstream := slow(t, n, g, s, 30_000, 1000, "message")
	code, reason := upstream.closed()
	if code != 1013 || !strings.HasPrefix(reason, "slow_consumer") {
		t.Errorf("upstream was closed with %d %q", code, reason)
	}
	client.do("resume", nil)
	last := 0
	for {
		e := client.any()
		if e.Ev == "close" {
			if e.Code != 1013 || !strings.HasPrefix(e.Text, "slow_consumer") {
				t.Errorf("client was closed with %d %q", e.Code, e.Text)
			}
			break
		}
		if m := decodeNumbered(t, e.Text); m.ID != last+1 {
			t.Fatalf("%d after %d", m.ID, last)
		}
		last++
	}
	g.logs.wait("the close", "msg=closed", "code=1013", "initiator=weir", "fault=slow_consumer")
	if n := g.metric(`weir_ws_closes_total{code="1013",initiator="weir"}`); n != 1 {
		t.Errorf("counted %v", n)
	}
	if n := g.metric(`weir_faults_total{code="slow_consumer"}`); n != 1 {
		t.Errorf("counted %v", n)
	}
	bystander.send("hello")
	if got := other.message(); got != "hello" {
		t.Errorf("another tunnel got %q", got)
	}
}

// One who reads slowly, but reads, is no slow consumer.
func TestASlowReaderIsNotClosed(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url, limits: `max_buffered_bytes = "64KiB"
slow_consumer_grace = "2s"`})
	const count = 8000
	c := g.socket(t, "/")
	up := s.accept()
	up.do("flood", args{"count": count, "size": 1000, "from": 1, "types": []string{"message"}})
	for id := 1; id <= count; id++ {
		if _, payload := c.frame(); decodeNumbered(t, payload).ID != id {
			t.Fatalf("%.60q where %d was due", payload, id)
		}
	}
	up.next("flooded")
	up.quiet()
}

// What waits for an upstream that does not read is bounded, and who sends more
// is told so: what was not refused arrives.
func TestTheInboxIsBounded(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url, native: true, limits: `max_inbox = 4
slow_consumer_grace = "10m"`})
	client, upstream := n.pair(g, s, nil)
	upstream.pause()
	const count = 600
	client.do("flood", args{"count": count, "size": 60_000, "from": 1, "types": []string{"message"}})
	refused := 0
	refusal := func() { // skips nothing but the news that all is sent
		t.Helper()
		e := client.any()
		if e.Ev == "flooded" {
			e = client.any()
		}
		r := decodeError(t, e.Text).Error
		if r.Code != "inbox_full" || !r.Retryable || r.Limit != 4 || r.Message != "4 messages wait for the upstream, max_inbox is 4" {
			t.Fatalf("%+v", r)
		}
		refused++
	}
	refusal()
	upstream.do("resume", nil)
	// The last one may be refused too: the one behind it tells the end.
	received, last := 0, 0
	client.do("ping", args{"text": "end"})
	for {
		e := upstream.any()
		if e.Ev == "ping" {
			break
		}
		m := decodeNumbered(t, e.Text)
		if m.ID <= last {
			t.Fatalf("%d after %d", m.ID, last)
		}
		last = m.ID
		received++
	}
	for received+refused < count {
		refusal()
	}
	if n := int(g.metric(`weir_faults_total{code="inbox_full"}`)); n != refused {
		t.Errorf("counted %d, told %d", n, refused)
	}
}

// max_memory bounds all queues together: new tunnels are refused while it is
// used up, those that are open live on.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url, limits: `max_memory = "512KiB"
max_buffered_bytes = "16MiB"
slow_consumer_grace = "10m"`, policy: `droppable = ["presence"]`})
	bystander, other := n.pair(g, s, nil)
	client, _ := slow(t, n, g, s, 20_000, 1000, "message")
	var refusal event
	var more []*peer // what the kernel takes at last, they fill again
	eventually(t, "a new tunnel to be refused", func() bool {
		c := n.open(g.ws("/"), nil)
		e := c.any()
		if e.Ev == "open" {
			c.pause()
			s.accept().do("flood", args{"count": 1000, "size": 1000, "from": 1, "types": []string{"message"}})
			more = append(more, c)
			return false
		}
		refusal = e
		return true
	})
	if p := decodeProblem(t, refusal.Text); refusal.Status != 503 || p.Code != "too_many_connections" || !p.Retryable || p.Limit != 448<<10 { // an eighth is left free
		t.Errorf("%v", refusal)
	}
	if n := g.metric("weir_queue_bytes"); n > 600<<10 {
		t.Errorf("%v bytes are queued", n)
	}
	bystander.send("hello")
	if got := other.message(); got != "hello" {
		t.Errorf("another tunnel got %q", got)
	}
	for _, c := range more {
		c.do("resume", nil)
	}
	client.do("resume", nil)
	for id := 1; id <= 20_000; id++ {
		if m := decodeNumbered(t, client.message()); m.ID != id {
			t.Fatalf("%+v where %d was due", m, id)
		}
	}
	eventually(t, "memory to be free", func() bool { return g.metric("weir_queue_bytes") == 0 })
	n.pair(g, s, nil)
}
