package poll

// Turn is what a handler says about a call of Ready, so that those with much to
// do do not hold up those with little.
type Turn uint8

// Turns.
const (
	// Short: it was soon done.
	Short Turn = iota
	// Long: for a while it is called after others that are ready.
	Long
	// Again is Long, and there is more to do, whether the socket says so or not.
	Again
)
