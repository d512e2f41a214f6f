package policy

import "context"

// Guest is what answers hooks; *wasmhost.Module is one.
type Guest = guest

// LoadGuest is Load with a guest that is there already, configured. The policy
// owns it, and closes it when this fails.
func LoadGuest(ctx context.Context, o Options, g Guest) (*Policy, error) {
	return load(ctx, o, g, newReporter(o.Log, o.Config.Name))
}
