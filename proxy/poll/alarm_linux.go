package poll

import (
	"container/heap"
	"time"
)

// Alarm calls a function on its source's loop when its time has come.
type Alarm struct {
	loop *loop
	call func(leave func())
	due  time.Time
	at   int // in the loop's heap; -1: not set
}

// NewAlarm returns an alarm that is not set. call runs on the loop as a
// Handler's Ready does.
func (s *Source) NewAlarm(call func(leave func())) *Alarm {
	return &Alarm{loop: s.loop, call: call, at: -1}
}

// Set has the alarm go off once at due, in place of what was set before. Zero:
// not at all. A call may be under way.
func (a *Alarm) Set(due time.Time) {
	l := a.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case due.IsZero():
		if a.at >= 0 {
			heap.Remove(&l.alarms, a.at)
		}
		return
	case a.at >= 0:
		a.due = due
		heap.Fix(&l.alarms, a.at)
	default:
		a.due = due
		heap.Push(&l.alarms, a)
	}
	if a.at == 0 {
		l.rouse(due)
	}
}

// alarms is a heap, the earliest first.
type alarms []*Alarm

func (h alarms) Len() int           { return len(h) }
func (h alarms) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

func (h alarms) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *alarms) Push(x any) {
	a := x.(*Alarm)
	a.at = len(*h)
	*h = append(*h, a)
}

// Pop implements heap.Interface.
func (h *alarms) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	a.at = -1
	return a
}
