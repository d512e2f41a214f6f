package flow

// stateCost is the memory that a name of states takes beside its bytes.
const stateCost = 96

// states knows the newest message of each name that waits and has not begun.
type states struct {
	ids    map[string]uint32 // from 1
	newest []state           // by id - 1
	free   []uint32          // ids of nobody
}

type state struct {
	name   string
	number uint64
	chain  *chain
}

// of returns the id of a name that has a newest message, 0 for none and for no
// name.
func (s *states) of(name string) uint32 { return s.ids[name] }

func (s *states) get(id uint32) *state { return &s.newest[id-1] }

// add returns an id for a name that has none.
func (s *states) add(name string) (id uint32) {
	if s.ids == nil {
		s.ids = map[string]uint32{}
	}
	if n := len(s.free); n > 0 {
		id, s.free = s.free[n-1], s.free[:n-1]
	} else {
		s.newest = append(s.newest, state{})
		id = uint32(len(s.newest))
	}
	s.ids[name] = id
	s.newest[id-1].name = name
	return id
}

// remove forgets a name. It returns what it cost.
func (s *states) remove(id uint32) int64 {
	st := s.get(id)
	cost := nameCost(st.name)
	if s.ids[st.name] == id { // else it means another state by now
		delete(s.ids, st.name)
	}
	*st = state{}
	s.free = append(s.free, id)
	return cost
}

// nameCost is what a message costs for the name of its state.
func nameCost(name string) int64 {
	if name == "" {
		return 0
	}
	return stateCost + int64(len(name))
}
