//go:build linux || darwin || freebsd || netbsd || openbsd

package wasmhost

import "syscall"

// reserve returns n bytes of zeros that take no memory until they are written;
// false if there are none to be had.
func reserve(n int) ([]byte, bool) {
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	return b, err == nil
}

func release(b []byte) { _ = syscall.Munmap(b) } // cannot fail for what reserve returned
