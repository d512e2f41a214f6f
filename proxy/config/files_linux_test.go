package config

import "testing"

// Some files below /proc wait for what there is to read: /proc/kmsg does, where it may
// be opened.
func TestAFileWithoutASizeIsNotRead(t *testing.T) {
	var f Files
	if b, err := f.Read("/proc/self/environ"); len(b) > 0 || err != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if b, err := f.Read("/proc/kmsg"); len(b) > 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
