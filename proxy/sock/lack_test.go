package sock

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestWhatIsLacking(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		if got := Lack(err); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	call := func(name string, errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError(name, errno)}
	}
	f(call("socket", syscall.EMFILE), "descriptors")
	f(call("socket", syscall.ENFILE), "whole system")
	f(call("connect", syscall.EADDRNOTAVAIL), "") // no port toward this target, or no IPv6: another may do
	f(call("socket", syscall.ENOBUFS), "memory")
	f(call("socket", syscall.ENOMEM), "memory")
	f(&net.DNSError{Err: "dial udp 10.0.0.1:53: socket: too many open files"}, "descriptors")
	f(&net.DNSError{Err: "no such host"}, "")
	f(call("connect", syscall.ECONNREFUSED), "")
	f(call("connect", syscall.EHOSTUNREACH), "")
	f(&fs.PathError{Op: "open", Path: "gateway.toml", Err: syscall.EMFILE}, "descriptors")
	f(fs.ErrNotExist, "")
	f(errors.New("x"), "")
	f(nil, "")
}
