package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"weir/proxy/admin"
	"weir/proxy/config"
	"weir/proxy/metrics"
	"weir/proxy/sock"
)

// Reload reads the configuration anew and publishes it. On any error the
// running generation stays. Files that say what is running already change
// nothing. All ways to reload come through here, one at a time.
func (g *Gateway) Reload() error {
	_, err := g.reloadFor(true)
	return err
}

// reloadFor is Reload, and tells whether anything changed. Where nobody asked,
// nothing is said of files that did not change, unless a reload had failed before:
// then that is over. Neither who leaves nor a drain makes it a failure; the end does
// of one that has begun.
func (g *Gateway) reloadFor(asked bool) (changed bool, err error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if g.stopping() {
		return false, errors.New("the server is shutting down")
	}
	err = errPanicked
	g.panicked(metrics.InReload).Contain(func() {
		if changed, err = g.reload(); sock.Lack(err) != "" && g.spare() {
			changed, err = g.reload()
		}
	})
	number := g.current.Load().number
	if failed := g.failing.Swap(err != nil); err != nil {
		g.metrics.ReloadFailed()
		g.log.Error("reload failed, the running configuration stays", "config", g.path, "generation", number, "error", err.Error())
	} else {
		g.metrics.Reloaded(time.Now())
		switch {
		case changed:
			g.log.Info("reloaded", "config", g.path, "generation", number)
		case asked || failed:
			g.log.Info("nothing to reload, the files say what runs", "config", g.path, "generation", number)
		}
	}
	return changed, err
}

// errPanicked is all that is said of a bug to whoever asked; the log has more.
var errPanicked = errors.New("weir itself failed; its log says where")

func (g *Gateway) reload() (changed bool, err error) {
	g.followNamed()
	cfg, err := g.files.Load(g.path)
	if err != nil {
		return false, err
	}
	old := g.current.Load()
	if old.cfg.Equal(cfg) {
		return false, nil
	}
	if err := needsRestart(old.cfg, cfg); err != nil {
		return false, err
	}
	gen, err := g.build(g.life, cfg, old)
	if err != nil {
		return false, err
	}
	g.publish(gen)
	if old.cfg.Limits.MaxConnections != cfg.Limits.MaxConnections {
		g.warnOfFewFiles()
	}
	if g.admin != nil && old.cfg.Admin.Token != cfg.Admin.Token {
		g.admin.handler.use(cfg.Admin.Token)
	}
	g.done.Go(func() { g.retire(old) })
	g.watcher.Load().follow(cfg)
	return true, nil
}

// needsRestart refuses what a running process can not change.
func needsRestart(old, cfg *config.Config) error {
	var errs []error
	if was, is := old.Server.Listen, cfg.Server.Listen; was != is {
		errs = append(errs, restart(cfg.At(fmt.Sprintf("changed from %q to %q: restart weir for it", was, is), "server", "listen")))
	}
	if was, is := cmp.Or(old.Admin.Listen, "none"), cmp.Or(cfg.Admin.Listen, "none"); was != is {
		errs = append(errs, restart(cfg.At(fmt.Sprintf("changed from %q to %q: restart weir for it", was, is), "admin", "listen")))
	}
	return errors.Join(errs...)
}

// restart marks a problem that a reload cannot solve.
func restart(e config.Error) error { return fmt.Errorf("%w (%w)", e, admin.ErrConflict) }
