package main

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbid has the kernel end the process for the system call nr, as systemd's
// SystemCallFilter= does.
func forbid(t *testing.T, nr uint32) {
	t.Helper()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Skip(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		t.Skip(errno)
	}
}

// A filter of system calls that ends the process does it at the start, and not
// once there are tunnels.
func TestAFilterOfSystemCallsShowsAtTheStart(t *testing.T) {
	const env = "WEIR_TEST_FORBID"
	if nr, err := strconv.ParseUint(os.Getenv(env), 10, 32); err == nil {
		forbid(t, uint32(nr))
		tune()
		return
	}
	for name, c := range map[string]struct {
		nr   int
		ends bool
	}{
		"sched_setaffinity": {unix.SYS_SCHED_SETAFFINITY, true},
		"setpriority":       {unix.SYS_SETPRIORITY, true},
		"another":           {unix.SYS_ACCT, false},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestAFilterOfSystemCallsShowsAtTheStart$", "-test.v")
			cmd.Env = append(os.Environ(), env+"="+strconv.Itoa(c.nr))
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if bytes.Contains(out, []byte("--- SKIP")) && os.Getenv("CI") == "" {
				t.Skipf("%s", out)
			}
			if status := cmd.ProcessState.Sys().(syscall.WaitStatus); (status.Signal() == syscall.SIGSYS) != c.ends {
				t.Errorf("ended with %v:\n%s", cmd.ProcessState, out)
			}
		})
	}
}
