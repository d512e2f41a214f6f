package gateway

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"weir/proxy/config"
	"weir/proxy/sock"
)

// watcher reloads when gateway.toml or a file it names changes on disk.
// Directories are watched too, so that a file that is replaced by renaming another
// over it is seen as well, and so is a symbolic link on the way to it that is
// switched.
type watcher struct {
	fs   *fsnotify.Watcher
	only config.Files
	log  *slog.Logger

	mu    sync.Mutex
	files map[string]bool         // followed; absolute paths
	names map[string]bool         // what leads to them now, and the directories that hold it
	add   func(path string) error // to fs
	told  map[string]bool         // of what is not watched
	short bool                    // the kernel had not enough to watch something
}

// settle is how long files must be quiet before they are read: a copy in
// progress is not read half.
const settle = 100 * time.Millisecond

// watch follows the running configuration's files as soon as it can: a kernel has few
// watchers for each user. It ends with the gateway.
func (g *Gateway) watch() {
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		w, err := g.startWatching()
		if err == nil {
			if w != nil {
				g.followFiles(w)
			}
			return
		}
		if pause == firstLook {
			g.log.Warn("files are not watched so far; reload by SIGHUP or the admin listener", "error", err.Error())
		}
		select {
		case <-g.stop:
			return
		case <-time.After(pause):
		}
	}
}

// startWatching returns nil without an error when the gateway has ended.
func (g *Gateway) startWatching() (*watcher, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if g.stopping() {
		return nil, nil
	}
	fs, err := g.newWatcher()
	if err != nil {
		return nil, err
	}
	w := &watcher{fs: fs, add: fs.Add, only: g.files, log: g.log}
	w.follow(g.current.Load().cfg)
	g.watcher.Store(w)
	return w, nil
}

// followNamed follows also the files that the configuration names as it now stands,
// before they are read: what changes behind that is told. It may be what is wrong
// with it, and be put right.
func (g *Gateway) followNamed() {
	src, err := g.files.Read(g.path)
	if err != nil {
		return
	}
	if cfg, err := config.Parse(g.path, src); err == nil {
		g.watcher.Load().follow(g.current.Load().cfg, cfg)
	}
}

// follow watches the files of the configurations in place of those before.
func (w *watcher) follow(cfgs ...*config.Config) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files = map[string]bool{}
	for _, cfg := range cfgs {
		for _, f := range append(modules(cfg), cfg.Path, cfg.Server.TLSCert, cfg.Server.TLSKey) {
			if f == "" || !w.only.Hold(f) {
				continue
			}
			if abs, err := filepath.Abs(f); err == nil {
				w.files[abs] = true
			}
		}
	}
	w.look()
}

func modules(cfg *config.Config) (files []string) {
	for _, p := range cfg.Policies {
		files = append(files, p.Module)
	}
	return files
}

// lookAgain finds out by what way the files are reached now.
func (w *watcher) lookAgain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look()
}

// look watches the files, the directories of all that leads to them, and nothing
// else. The files themselves are for those that are mounted each on its own: what
// changes one elsewhere is not told to the directory.
func (w *watcher) look() {
	w.names = map[string]bool{}
	watched := map[string]bool{}
	for f := range w.files {
		names := trail(f)
		for i, name := range names {
			if !w.only.Beneath(name) {
				continue
			}
			dir := filepath.Dir(name)
			w.names[name], w.names[dir], watched[dir] = true, true, true
			if i == len(names)-1 {
				watched[name] = true
			}
		}
	}
	for _, path := range w.fs.WatchList() {
		if !watched[path] {
			_ = w.fs.Remove(path) // it may be gone
		}
	}
	told := w.told
	w.told, w.short = map[string]bool{}, false
	for path := range watched {
		err := w.add(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fsnotify.ErrClosed) {
			continue
		}
		w.short = w.short || errors.Is(err, syscall.ENOSPC) || sock.Lack(err) != ""
		if w.told[path] = true; !told[path] {
			w.log.Warn("not watched; reload by SIGHUP or the admin listener", "path", path, "error", err.Error())
		}
	}
}

// maxLinks is how many symbolic links may lead to a file: as many as Linux
// follows (path_resolution(7)).
const maxLinks = 40

// trail returns what leads to an absolute path: the symbolic links on the way,
// and what is at its end, or the first on the way that is missing. On the way to
// each of them there are no links.
func trail(path string) (names []string) {
	root := filepath.VolumeName(path) + string(filepath.Separator)
	steps := func(p string) []string { return strings.Split(filepath.ToSlash(p), "/") }
	at, rest := root, steps(path[len(filepath.VolumeName(path)):])
	for len(rest) > 0 && len(names) < maxLinks {
		next := filepath.Join(at, rest[0]) // "", "." and ".." included
		rest = rest[1:]
		target, err := os.Readlink(next)
		switch {
		case err == nil:
			names = append(names, next)
			if filepath.IsAbs(target) {
				at = root
			}
			rest = slices.Concat(steps(target), rest)
		case errors.Is(err, fs.ErrNotExist):
			return append(names, next)
		default:
			at = next
		}
	}
	return append(names, at)
}

// concerns reports whether an event may have changed what the files say. Rights
// that change do so only where a file could not be read.
func (w *watcher) concerns(e fsnotify.Event, failing bool) bool {
	if e.Op == fsnotify.Chmod && !failing {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.names[filepath.Clean(e.Name)]
}

// lacks reports whether something is not watched that may be later.
func (w *watcher) lacks() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.short
}

func (w *watcher) close() {
	if w != nil {
		_ = w.fs.Close()
	}
}

// Pauses between looks at files that Weir had not enough to read or to watch; each is twice as
// long as the one before.
const (
	firstLook = time.Second
	lastLook  = 30 * time.Second
)

// followFiles ends when the watcher is closed.
func (g *Gateway) followFiles(w *watcher) {
	look := firstLook
	quiet := time.NewTimer(settle) // what changed before they were followed?
	defer quiet.Stop()
	for {
		select {
		case e, ok := <-w.fs.Events:
			if !ok {
				return
			}
			if w.concerns(e, g.failing.Load()) {
				quiet.Reset(settle)
			}
		case err, ok := <-w.fs.Errors:
			if !ok {
				return
			}
			g.log.Warn("watching files", "error", err.Error())
			quiet.Reset(settle) // events may be lost
		case <-quiet.C:
			w.lookAgain()
			if _, err := g.reloadFor(false); sock.Lack(err) != "" || w.lacks() { // logged and counted there
				quiet.Reset(look)
				look = min(2*look, lastLook)
			} else {
				look = firstLook
			}
		}
	}
}
