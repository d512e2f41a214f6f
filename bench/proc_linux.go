package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// clockTicks is USER_HZ, the unit of CPU times in /proc/PID/stat. It is 100 on
// every Linux that Go runs on.
const clockTicks = 100

// family is a process and all that descend from it.
func family(root int) []int {
	children := map[int][]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return []int{root}
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f, err := stat(pid); err == nil {
			ppid, _ := strconv.Atoi(f[1])
			children[ppid] = append(children[ppid], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// stat is /proc/PID/stat from the state on, which is field 3 of proc(5).
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	return f, nil
}

// cpuTime is what the processes spent in user and system mode so far.
func cpuTime(pids []int) (time.Duration, error) {
	var ticks int64
	for _, pid := range pids {
		f, err := stat(pid)
		if err != nil {
			return 0, err
		}
		user, _ := strconv.ParseInt(f[11], 10, 64)
		system, _ := strconv.ParseInt(f[12], 10, 64)
		ticks += user + system
	}
	return time.Duration(ticks) * time.Second / clockTicks, nil
}

// withheld returns what tells, in percent, how much of the processors' time the
// host of this machine let others have since, while there was something to do
// (steal in proc(5)). No program can answer meanwhile.
func withheld() (percent func() float64) {
	began, before := time.Now(), stolen()
	return func() float64 {
		return 100 * (stolen() - before).Seconds() / time.Since(began).Seconds() / float64(runtime.NumCPU())
	}
}

func stolen() time.Duration {
	f := strings.Fields(firstLine("/proc/stat"))
	if len(f) < 9 {
		return 0
	}
	ticks, _ := strconv.ParseInt(f[8], 10, 64)
	return time.Duration(ticks) * time.Second / clockTicks
}

// resident is the memory of the processes in bytes: the proportional set
// size, so that pages which workers share are counted once.
func resident(pids []int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		n, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
		if err != nil { // not ours to look into: the resident set size is public
			if n, err = kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:"); err != nil {
				return 0, err
			}
		}
		sum += n << 10
	}
	return sum, nil
}

func kilobytes(path, name string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}
