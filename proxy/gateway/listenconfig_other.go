//go:build !linux

package gateway

import "net"

// listenConfig leaves keep-alives to package net.
func listenConfig() net.ListenConfig { return net.ListenConfig{} }
