package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"weir/proxy/admin"
	"weir/proxy/config"
	"weir/proxy/metrics"
)

// Reload reads the configuration anew and publishes it. On any error the
// running generation stays. Files that say what is running already change
// nothing. All ways to reload come through here, one at a time.
func (g *Gateway) Reload(ctx context.Context) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	changed, err := false, errPanicked
	g.panicked(metrics.InReload).Contain(func() { changed, err = g.reload(ctx) })
	switch {
	case err != nil:
		g.metrics.ReloadFailed()
		g.log.Error("reload failed, the running configuration stays", "config", g.path, "generation", g.current.Load().number, "error", err.Error())
	case changed:
		g.metrics.Reloaded(time.Now())
		g.log.Info("reloaded", "config", g.path, "generation", g.current.Load().number)
	default:
		g.metrics.Reloaded(time.Now())
	}
	return err
}

// errPanicked is all that is said of a bug to whoever asked; the log has more.
var errPanicked = errors.New("weir itself failed; its log says where")

func (g *Gateway) reload(ctx context.Context) (changed bool, err error) {
	if g.stopping() {
		return false, errors.New("the server is shutting down")
	}
	cfg, err := g.files.Load(g.path)
	if err != nil {
		g.followNamed()
		return false, err
	}
	old := g.current.Load()
	if old.cfg.Equal(cfg) {
		return false, nil
	}
	if err := g.needsRestart(old.cfg, cfg); err != nil {
		return false, err
	}
	gen, err := g.build(ctx, cfg, old)
	if err != nil {
		g.watcher.Load().also(cfg)
		return false, err
	}
	g.publish(gen)
	if g.admin != nil && old.cfg.Admin.Token != cfg.Admin.Token {
		g.admin.handler.use(cfg.Admin.Token)
	}
	g.done.Go(func() { g.retire(old) })
	g.watcher.Load().follow(cfg)
	return true, nil
}

// needsRestart refuses what a running process can not change.
func (g *Gateway) needsRestart(old, cfg *config.Config) error {
	var errs []error
	if was, is := old.Server.Listen, cfg.Server.Listen; was != is {
		errs = append(errs, restart(cfg.At(fmt.Sprintf("changed from %q to %q: restart weir for it", was, is), "server", "listen")))
	}
	if was, is := old.Admin.Listen, cfg.Admin.Listen; was != is {
		errs = append(errs, restart(cfg.At(fmt.Sprintf("changed from %q to %q: restart weir for it", was, is), "admin", "listen")))
	}
	return errors.Join(errs...)
}

// restart marks a problem that a reload cannot solve.
func restart(e config.Error) error { return fmt.Errorf("%w (%w)", e, admin.ErrConflict) }

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

// watcher reloads when gateway.toml or a file it names changes on disk.
// Directories are watched, so that a file that is replaced by renaming another
// over it is seen as well.
type watcher struct {
	fs    *fsnotify.Watcher
	only  config.Files
	again chan struct{} // other files are followed now: what changed meanwhile?
	mu    sync.Mutex
	files map[string]bool // absolute paths
}

// settle is how long files must be quiet before they are read: a copy in
// progress is not read half.
const settle = 100 * time.Millisecond

// watch starts following the running configuration's files.
func (g *Gateway) watch() {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		g.log.Warn("files are not watched; reload by SIGHUP or the admin listener", "error", err.Error())
		return
	}
	w := &watcher{fs: fs, only: g.files, again: make(chan struct{}, 1), files: map[string]bool{}}
	w.follow(g.current.Load().cfg)
	g.watcher.Store(w)
	g.done.Go(func() { g.followFiles(w) })
}

// followNamed follows also the files that a configuration names which can not
// be loaded: what is wrong may be one of them, and be put right.
func (g *Gateway) followNamed() {
	src, err := g.files.Read(g.path)
	if err != nil {
		return
	}
	if cfg, err := config.Parse(g.path, src); err == nil {
		g.watcher.Load().also(cfg)
	}
}

// follow watches the files of cfg in place of those before.
func (w *watcher) follow(cfg *config.Config) {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.files = map[string]bool{}
	w.mu.Unlock()
	w.also(cfg)
	select {
	case w.again <- struct{}{}:
	default:
	}
}

// also watches the files of cfg beside those before.
func (w *watcher) also(cfg *config.Config) {
	if w == nil {
		return
	}
	var files []string
	for _, f := range append(modules(cfg), cfg.Path, cfg.Server.TLSCert, cfg.Server.TLSKey) {
		if f == "" || !w.only.Hold(f) {
			continue
		}
		if abs, err := filepath.Abs(f); err == nil {
			files = append(files, abs)
			_ = w.fs.Add(filepath.Dir(abs)) // a missing directory holds no file to follow
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range files {
		w.files[f] = true
	}
}

func modules(cfg *config.Config) (files []string) {
	for _, p := range cfg.Policies {
		files = append(files, p.Module)
	}
	return files
}

// concerns reports whether an event is about a followed file, or about the
// symbolic link that a mounted directory is switched by.
func (w *watcher) concerns(e fsnotify.Event) bool {
	if e.Op == fsnotify.Chmod {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.files[filepath.Clean(e.Name)] || filepath.Base(e.Name) == "..data"
}

func (w *watcher) close() {
	if w != nil {
		_ = w.fs.Close()
	}
}

// followFiles ends when the watcher is closed.
func (g *Gateway) followFiles(w *watcher) {
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case e, ok := <-w.fs.Events:
			if !ok {
				return
			}
			if w.concerns(e) {
				quiet.Reset(settle)
			}
		case err, ok := <-w.fs.Errors:
			if !ok {
				return
			}
			g.log.Warn("watching files", "error", err.Error())
		case <-w.again:
			quiet.Reset(settle)
		case <-quiet.C:
			_ = g.Reload(context.Background()) // logged and counted there
		}
	}
}
