package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/proxy/config"
)

const (
	// reloadTimeout bounds the whole of a reload: policies that are compiled
	// take a second each.
	reloadTimeout = 2 * time.Minute
	// maxReply is how much of the answer is read, in bytes.
	maxReply = 1 << 20
)

func (c *cli) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the running Weir take up the configuration as it now stands",
		Long: `Asks the running Weir, through the admin listener that the configuration
names and with its token, to read its configuration and policies again. It
builds everything anew beside what runs, and only then changes over: no
connection notices, and on any error nothing changes.

Weir also does so by itself when the file or a policy changes, and on SIGHUP.
What this command adds is the answer. Of a file with mistakes in itself it says
them without asking Weir, which finds them when it reads the file. A change of
the token is left to Weir: until it has taken that up, it does not know who asks
with the new one.

Exit status: 0 when the configuration is in force, also when it was before, 1 when
it was refused (the reasons are printed, the old one stays) or Weir cannot be
reached, 2 for a command line that makes no sense.`,
		Example: `  weir reload
  weir validate && weir reload`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			src, err := c.files.Read(c.config)
			if err != nil {
				return failure{err}
			}
			cfg, err := config.Parse(c.config, src)
			if err != nil {
				fmt.Fprintf(c.err, "%v\nnothing was reloaded\n", err)
				return failed
			}
			if cfg.Admin.Listen == "" {
				return failure{cfg.At(`is "none": send SIGHUP instead`, "admin", "listen")}
			}
			reply, err := postReload(cmd.Context(), localURL(cfg.Admin.Listen), cfg.Admin.Token)
			if err != nil {
				return failure{err}
			}
			return c.print(reply + "\n")
		},
	}
}

// postReload returns what there is to say of a reload, as an error if it failed.
func postReload(ctx context.Context, base, token string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/reload", nil)
	if err != nil {
		return "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	// Never through a proxy, and never on to another place: the token is for
	// this listener only.
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("the admin listener does not answer; is Weir running with this configuration? %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return "", fmt.Errorf("the answer broke off: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		err := refusal(resp.Status, body)
		if resp.StatusCode == http.StatusUnauthorized {
			err = fmt.Errorf("%w: the running Weir has another admin.token than the file; it takes up a new one by itself, or its log says why not", err)
		}
		return "", err
	}
	var done struct {
		Generation uint64
		Changed    bool
	}
	if err := json.Unmarshal(body, &done); err != nil || done.Generation == 0 {
		return "", fmt.Errorf("%s answers, but not as Weir does: %.200q", base, body)
	}
	if !done.Changed {
		return fmt.Sprintf("nothing to reload, the files say what runs: generation %d is in force", done.Generation), nil
	}
	return fmt.Sprintf("reloaded: generation %d is in force", done.Generation), nil
}

// refusal puts an answer of the admin listener into the words of validate.
func refusal(status string, body []byte) error {
	var problem struct {
		Detail string
		Errors config.Errors // its fields have these names
	}
	if err := json.Unmarshal(body, &problem); err != nil || problem.Detail == "" {
		return errors.New(strings.TrimSpace(status + "\n" + string(body)))
	}
	if len(problem.Errors) == 0 {
		return fmt.Errorf("%s (%s)", problem.Detail, status)
	}
	return fmt.Errorf("%s\n%w", problem.Detail, problem.Errors)
}

// localURL is where a listener on address is reached from this machine.
func localURL(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "http://" + address
	}
	switch a, err := netip.ParseAddr(host); {
	case host == "" || err == nil && a == netip.IPv6Unspecified():
		host = "localhost"
	case err == nil && a == netip.IPv4Unspecified():
		host = "127.0.0.1" // "localhost" may be [::1] first, where somebody else may listen
	}
	return "http://" + strings.ReplaceAll(net.JoinHostPort(host, port), "%", "%25") // of a zone (RFC 6874)
}
