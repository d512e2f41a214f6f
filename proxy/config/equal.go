package config

import "reflect"

// Equal tells whether c and o say the same, down to the bytes of the modules;
// a reload to an equal configuration has nothing to do. Comments, and where
// keys stand, make no difference.
func (c *Config) Equal(o *Config) bool {
	a, b := *c, *o
	a.lines, b.lines = nil, nil
	return reflect.DeepEqual(a, b)
}
