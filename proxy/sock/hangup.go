package sock

import "sync"

// hangup is who is told when the other side of a connection leaves.
type hangup struct {
	mu   sync.Mutex // held during the call, so that forget joins it
	gone func()     // nil: nobody is to be told, or was
}

func (h *hangup) ask(gone func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone = gone
}

func (h *hangup) tell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if gone := h.gone; gone != nil {
		h.gone = nil
		gone()
	}
}

func (h *hangup) forget() { h.ask(nil) }
