package flow

// Fits makes room for a message of size bytes that may not be shed, without taking
// it, and reports whether there is enough.
func (q *Queue) Fits(size int64) bool {
	cost := size + recordSize
	if !q.makeRoom(&Message{}, cost) {
		return false
	}
	q.giveBack(cost)
	q.tidy()
	return true
}

// makeRoom takes bare, what m costs, of the limit and of the budget, and has the queue
// yield for that.
func (q *Queue) makeRoom(m *Message, bare int64) bool {
	name := m.state()
	if bare+nameCost(name) > q.limit {
		return false
	}
	for {
		cost := bare
		if q.states.of(name) == 0 { // else it takes the name over
			cost += nameCost(name)
		}
		if q.room+cost <= q.limit && q.reserve(cost, m.Droppable) {
			q.room += cost
			q.reserved += cost
			return true
		}
		if !q.Yield(m) {
			return false
		}
	}
}

// state is the name that m has while it may be given up.
func (m *Message) state() string {
	if m.Droppable {
		return m.Conflate
	}
	return ""
}

// Yield gives up one message for m, which comes; false: none may be. In this order:
// states that a newer one has superseded, the oldest first, then the state that m
// supersedes, then droppable messages by priority and age. For a droppable m nothing of
// a higher priority goes.
func (q *Queue) Yield(m *Message) bool {
	if q.superseded > 0 {
		q.conflate(q.oldestSuperseded())
		return true
	}
	if id := q.states.of(m.state()); id != 0 {
		st := q.states.get(id)
		st.chain.find(st.number)
		q.conflate(st.chain)
		return true
	}
	c := q.cheapest()
	if c == nil || m.Droppable && c.rank > int(m.Priority) {
		return false
	}
	q.shedOldest(c)
	return true
}

// reserve takes n bytes of the budget for a message.
func (q *Queue) reserve(n int64, droppable bool) bool {
	if droppable {
		return q.budget.ReserveSpare(n)
	}
	return q.budget.Reserve(n)
}

// supersede makes the message that comes the newest of a name. It returns the
// name's id.
func (q *Queue) supersede(c *chain, name string) uint32 {
	id := q.states.of(name)
	if id == 0 {
		id = q.states.add(name)
	} else {
		old := q.states.get(id).chain
		old.find(q.states.get(id).number)
		old.at.arg = 0
		old.at.flags |= superseded
		old.rewrite()
		old.waiting--
		old.here().superseded++
		if old.superseded == 0 || old.at.number < old.stale {
			old.stale = old.at.number
		}
		old.superseded++
		q.superseded++
	}
	st := q.states.get(id)
	st.number, st.chain = q.number, c
	return id
}

// oldestSuperseded sets the cursor of the chain that it returns to the oldest
// superseded state; there is one. Where no chain has another one before it, the others
// are not walked: with eight priorities a message would cost 28 µs.
func (q *Queue) oldestSuperseded() *chain {
	for {
		var oldest *chain
		for _, c := range q.chains {
			if c.superseded > 0 && (oldest == nil || c.stale < oldest.stale) {
				oldest = c
			}
		}
		if oldest.toStale() {
			return oldest
		}
	}
}

// cheapest returns the chain of the lowest rank that has something to give up;
// nil: none has.
func (q *Queue) cheapest() *chain {
	for _, c := range q.chains {
		if c.waiting > 0 {
			return c
		}
	}
	return nil
}

// conflate gives up the state at c's cursor, of which a newer one is here or
// comes.
func (q *Queue) conflate(c *chain) {
	number := c.at.number
	q.missed(c, number, q.giveUp(c))
	q.tally.Conflated++
	q.tidy()
}

// shedOldest gives up the oldest message of c and counts it in front of what
// follows.
func (q *Queue) shedOldest(c *chain) {
	first := max(c.shed, q.begunTo+1)
	if c.set(place{}); c.at.number < first {
		c.find(first)
	}
	c.shed = c.at.number + 1
	gap := q.giveUp(c)
	q.tally.Shed++
	if q.notice != nil {
		gap++
	}
	q.missed(c, c.shed-1, gap)
	q.tidy()
}

// giveUp drops the message that begins at c's cursor, all its pieces. It
// returns the gap that stood before it.
func (q *Queue) giveUp(c *chain) (gap uint64) {
	number := c.at.number
	gap = c.at.gap
	for c.at.ok && c.at.number == number {
		q.drop(c)
		c.step()
	}
	return gap
}

// drop marks the record at c's cursor as dead.
func (q *Queue) drop(c *chain) {
	q.remove(c)
	c.at.flags |= dead
	c.rewrite()
	if b := c.here(); b.first == c.at.i {
		b.first, b.off = b.first+1, 0
	}
}

// missed adds a gap in the place of a message that was given up: to what
// follows it. The cursor of its chain is behind it.
func (q *Queue) missed(of *chain, number, gap uint64) {
	if gap == 0 {
		return
	}
	for _, c := range q.chains {
		if c != of {
			c.find(number)
		}
	}
	if c := q.oldest(); c != nil {
		c.at.gap += gap
		c.rewrite()
	} else {
		q.gap += gap
	}
}

// Drop counts an arriving droppable message as shed without having seen it
// whole, and leaves a notice.
func (q *Queue) Drop() {
	q.tally.Shed++
	if q.notice != nil {
		q.gap++
	}
}

// Shed gives up every droppable message that has not begun: what a full memory
// budget asks of every queue.
func (q *Queue) Shed() {
	gap := uint64(0)
	number := q.begunTo
	q.rewind()
	for c := q.oldest(); c != nil; c = q.oldest() {
		switch {
		case c.droppable() && c.at.number > q.begunTo:
			gap += c.at.gap
			if c.at.number > number { // its first piece
				number = c.at.number
				if c.at.flags&superseded != 0 {
					q.tally.Conflated++
				} else {
					q.tally.Shed++
					if q.notice != nil {
						gap++
					}
				}
			}
			q.drop(c)
		case gap > 0:
			c.at.gap += gap
			gap = 0
			c.rewrite()
		}
		c.step()
	}
	q.gap += gap
	q.tidy()
}
