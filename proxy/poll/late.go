package poll

import "time"

// Late is how long after its end a wait may be found over and count. One that is found
// so later was that of a process that was stopped (SIGSTOP, a frozen container, a machine
// that was moved), and has yet to read what came: it lasts as long once more.
const Late = time.Second
