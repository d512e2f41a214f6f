package gateway

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fsnotify/fsnotify"

	"weir/proxy/config"
)

// put writes a configuration that differs from others by n.
func put(t *testing.T, path string, n int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(head+plainRoute+fmt.Sprintf("limits = { max_inbox = %d }", n)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// relink switches a symbolic link in one step, as deployments do.
func relink(t *testing.T, target, link string) {
	t.Helper()
	if err := errors.Join(os.Symlink(target, link+".new"), os.Rename(link+".new", link)); err != nil {
		t.Fatal(err)
	}
}

// runs waits until the configuration that put wrote with n runs.
func (r *rig) runs(what string, n int) {
	r.t.Helper()
	until(r.t, what, func() bool { return r.g.current.Load().cfg.Routes[0].Limits.MaxInbox == n })
}

// The kernel has few watchers for each user, and other processes may have them all.
func TestFilesAreFollowedOnceThereIsAWatcher(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/gateway.toml", 1)
	r := prepare(t, dir, config.Files{}, plainRoute)
	lacking := true
	r.g.newWatcher = func() (*fsnotify.Watcher, error) {
		if lacking {
			lacking = false
			put(t, dir+"/gateway.toml", 2)
			return nil, syscall.EMFILE
		}
		return fsnotify.NewWatcher()
	}
	r.run()
	r.runs("what had changed before there was a watcher", 2)
	put(t, dir+"/gateway.toml", 3)
	r.runs("a file changes", 3)
	if !strings.Contains(r.logs.String(), "files are not watched so far") {
		t.Error("nobody was told")
	}
}

// startLinked runs dir/current/gateway.toml, where current is a link to v1.
func startLinked(t *testing.T) (dir string, r *rig) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	relink(t, "v1", dir+"/current")
	put(t, dir+"/v1/gateway.toml", 1)
	return dir, startIn(t, dir+"/current", config.Files{}, plainRoute)
}

// Watches may be short, too; what could not be watched is looked at again.
func TestWatchesThatAreShortAreAskedForAgain(t *testing.T) {
	dir, r := startLinked(t)
	put(t, dir+"/v1/gateway.toml", 2)
	r.runs("a file that is watched changes", 2)

	var room atomic.Bool
	w := r.g.watcher.Load()
	w.mu.Lock()
	w.add = func(path string) error {
		if !room.Load() {
			return syscall.ENOSPC
		}
		return w.fs.Add(path)
	}
	w.mu.Unlock()
	put(t, dir+"/v2/gateway.toml", 3)
	relink(t, "v2", dir+"/current")
	r.runs("the link is switched", 3)
	room.Store(true)
	put(t, dir+"/v2/gateway.toml", 4)
	r.runs("a file changes that could not be watched", 4)
}

func TestFilesAreFollowedThroughLinks(t *testing.T) {
	dir, r := startLinked(t)

	put(t, dir+"/v1/gateway.toml", 2)
	r.runs("a file beyond a link changes", 2)
	put(t, dir+"/v2/gateway.toml", 3)
	relink(t, dir+"/v2", dir+"/current")
	r.runs("the link is switched", 3)
	put(t, dir+"/v2/gateway.toml", 4)
	r.runs("a file beyond the new link changes", 4)

	put(t, dir+"/elsewhere/5.toml", 5)
	relink(t, "../elsewhere/5.toml", dir+"/v2/gateway.toml")
	r.runs("a link takes the file's place", 5)
	put(t, dir+"/elsewhere/5.toml", 6)
	r.runs("that link's file changes", 6)

	if got := r.g.watcher.Load().fs.WatchList(); slices.Contains(got, dir+"/v1") {
		t.Errorf("watched is still what is no longer read: %q", got)
	}
}

func TestADirectoryThatIsReplaced(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/conf/gateway.toml", 1)
	r := startIn(t, dir+"/conf", config.Files{}, plainRoute)
	put(t, dir+"/new/gateway.toml", 2)
	if err := errors.Join(os.Rename(dir+"/conf", dir+"/old"), os.Rename(dir+"/new", dir+"/conf")); err != nil {
		t.Fatal(err)
	}
	r.runs("another directory takes its place", 2)
	put(t, dir+"/conf/gateway.toml", 3)
	r.runs("a file in it changes", 3)

	if err := os.Rename(dir+"/conf", dir+"/away"); err != nil {
		t.Fatal(err)
	}
	until(t, "its absence is told", func() bool { return strings.Contains(r.logs.String(), "reload failed") })
	put(t, dir+"/away/gateway.toml", 4)
	if err := os.Rename(dir+"/away", dir+"/conf"); err != nil {
		t.Fatal(err)
	}
	r.runs("it is back", 4)
}

// What made a reload fail and is put right is told of, also where in the end
// nothing has changed; otherwise files that did not change are told of only to
// who asks.
func TestNothingToReload(t *testing.T) {
	r := start(t, plainRoute)
	told := func() int { return strings.Count(r.logs.String(), "nothing to reload") }
	if changed, err := (source{r.g}).Reload(); changed || err != nil || told() != 1 {
		t.Fatalf("asked for: changed %v, %v, told %d times", changed, err, told())
	}
	if changed, err := r.g.reloadFor(false); changed || err != nil || told() != 1 {
		t.Fatalf("not asked for: changed %v, %v, told %d times", changed, err, told())
	}
	r.write(plainRoute + "nonsense")
	until(t, "the mistake is told", func() bool { return strings.Contains(r.logs.String(), "reload failed") })
	r.write(plainRoute)
	until(t, "its end is told", func() bool { return told() == 2 })
	if n := r.g.current.Load().number; n != 1 {
		t.Errorf("generation %d", n)
	}
}

// Rights that change are looked at only while a reload has failed.
func TestRightsThatArePutRight(t *testing.T) {
	r := start(t, plainRoute)
	until(t, "files are followed", func() bool { return r.g.watcher.Load() != nil })
	w := r.g.watcher.Load()
	chmod := func(failing bool) bool {
		return w.concerns(fsnotify.Event{Name: r.path, Op: fsnotify.Chmod}, failing)
	}
	if chmod(false) || !chmod(true) {
		t.Errorf("concerns: %t, after a failure: %t", chmod(false), chmod(true))
	}
}

// A file that is mounted on its own is changed by another name, of which the
// directory it is read from hears nothing. A hard link stands for the mount.
func TestAFileThatIsChangedByAnotherName(t *testing.T) {
	elsewhere := t.TempDir() + "/gateway.toml"
	r := start(t, plainRoute)
	if err := os.Link(r.path, elsewhere); err != nil {
		t.Fatal(err)
	}
	put(t, elsewhere, 2)
	r.runs("it changes", 2)
	put(t, elsewhere, 3)
	r.runs("it changes again", 3)
}

// The files of a configuration that failed are followed until the next one: who
// writes one after the other could have any number watched.
func TestFilesOfAFailedReloadAreLeftBehind(t *testing.T) {
	r := start(t, plainRoute)
	until(t, "files are followed", func() bool { return r.g.watcher.Load() != nil })
	first, second := t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		r.write(strings.ReplaceAll(policyRoute("", ""), "{{module}}", dir+"/none.wasm"))
		if err := r.g.Reload(); err == nil {
			t.Fatal("there is no module")
		}
	}
	got := r.g.watcher.Load().fs.WatchList()
	if !slices.Contains(got, second) || slices.Contains(got, first) {
		t.Errorf("watched: %q; %s should be, %s not", got, second, first)
	}
}
