package gateway

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxUnsent is how many bytes the kernel takes for a client beyond what TCP could send so
// far. It would be megabytes for one that does not read, which no limit of Weir's counts.
const maxUnsent = 128 << 10

// listenConfig has the kernel give TCP keep-alives of 15 seconds, no delay and a bound
// of what waits to be sent to what is accepted, from the listener's own options
// (tcp(7)), where package net would set five options on each connection.
func listenConfig() net.ListenConfig {
	return net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			for _, o := range [...]struct {
				says               string
				level, name, value int
			}{
				{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
				{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},   // seconds
				{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15}, // seconds
				{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
				{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
				{"TCP_NOTSENT_LOWAT", unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent},
			} {
				if e := unix.SetsockoptInt(int(fd), o.level, o.name, o.value); e != nil && err == nil {
					err = os.NewSyscallError("setsockopt "+o.says, e)
				}
			}
		})
		if err == nil {
			err = controlErr
		}
		return err
	}}
}
