package demo

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Bounds of what may be asked for.
const (
	maxRate    = 50_000  // events or chunks per second
	maxSize    = 8 << 20 // bytes of one event or chunk
	maxSeconds = 3600
	maxWeight  = 1000
)

// users is how many different ones the presence and typing events are about.
const users = 5

// feedSpec is what a client asks of a stream of events.
type feedSpec struct {
	Rate    int            `json:"rate"`    // events per second; default 100
	Size    int            `json:"size"`    // bytes of an event at least; it is padded up to it
	Seconds int            `json:"seconds"` // 0: until stopped
	Mix     map[string]int `json:"mix"`     // weights by event type; nil: defaultMix
}

var kinds = []string{"message", "presence", "status", "typing"}

var defaultMix = map[string]int{"presence": 4, "typing": 3, "status": 1, "message": 2}

// check fills in defaults and says what is out of bounds.
func (s *feedSpec) check() error {
	if err := within("rate", s.Rate, 1, maxRate); err != nil {
		return err
	}
	if err := within("size", s.Size, 0, maxSize); err != nil {
		return err
	}
	if err := within("seconds", s.Seconds, 0, maxSeconds); err != nil {
		return err
	}
	if len(s.Mix) == 0 {
		s.Mix = defaultMix
	}
	sum := 0
	for _, k := range slices.Sorted(maps.Keys(s.Mix)) {
		if !slices.Contains(kinds, k) {
			return fmt.Errorf("mix names %q: the event types are %q", k, kinds)
		}
		if err := within("mix "+k, s.Mix[k], 0, maxWeight); err != nil {
			return err
		}
		sum += s.Mix[k]
	}
	if sum == 0 {
		return fmt.Errorf("mix has no weight above 0")
	}
	return nil
}

// feed makes one event after another. Types follow the weights of the mix as
// evenly as they can, the same way each time (smooth weighted round robin).
type feed struct {
	size    int
	kinds   []string
	weight  []int
	current []int
	total   int

	made int64            // events
	seq  int64            // of the last message event
	user map[string]int64 // next user by kind
}

// newFeed expects a checked spec.
func newFeed(s feedSpec) *feed {
	f := &feed{size: s.Size, user: map[string]int64{}}
	for _, k := range kinds {
		if w := s.Mix[k]; w > 0 {
			f.kinds = append(f.kinds, k)
			f.weight = append(f.weight, w)
			f.total += w
		}
	}
	f.current = make([]int, len(f.kinds))
	return f
}

func (f *feed) pick() string {
	best := 0
	for i := range f.kinds {
		f.current[i] += f.weight[i]
		if f.current[i] > f.current[best] {
			best = i
		}
	}
	f.current[best] -= f.total
	return f.kinds[best]
}

// append adds the next event: JSON with its type first. Only a message has an
// id and a seq, which counts them without a hole.
func (f *feed) append(dst []byte) []byte {
	start := len(dst)
	kind := f.pick()
	f.made++
	dst = append(dst, `{"type":"`...)
	dst = append(dst, kind...)
	dst = append(dst, '"')
	switch kind {
	case "message":
		f.seq++
		dst = append(dst, `,"id":"m-`...)
		dst = strconv.AppendInt(dst, f.seq, 10)
		dst = append(dst, `","seq":`...)
		dst = strconv.AppendInt(dst, f.seq, 10)
	case "presence":
		dst = append(f.appendUser(dst, kind), `,"state":"online"`...)
	case "typing":
		dst = f.appendUser(dst, kind)
	case "status":
		dst = append(dst, `,"source":"demo","at":`...)
		dst = strconv.AppendInt(dst, f.made, 10)
	}
	const pad = `,"pad":""}`
	if missing := f.size - (len(dst) - start) - len(pad); missing >= 0 {
		dst = append(dst, `,"pad":"`...)
		dst = slices.Grow(dst, missing+2)
		for range missing {
			dst = append(dst, '.')
		}
		return append(dst, `"}`...)
	}
	return append(dst, '}')
}

func (f *feed) appendUser(dst []byte, kind string) []byte {
	dst = append(dst, `,"user":"u`...)
	dst = strconv.AppendInt(dst, f.user[kind]%users+1, 10)
	f.user[kind]++
	return append(dst, '"')
}
