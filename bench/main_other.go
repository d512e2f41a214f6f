//go:build !linux

// Command bench compares proxies; it needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: the load generator is written for Linux (epoll, /proc)")
	os.Exit(1)
}
