package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// TestExamplesOfTheReadmeAreAccepted configures each TOML block of README.md.
func TestExamplesOfTheReadmeAreAccepted(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "```toml\n")[1:]
	for _, b := range blocks {
		b, _, _ = strings.Cut(b, "```")
		var file map[string]any
		if _, err := toml.Decode(b, &file); err != nil {
			t.Fatalf("%s\n%v", b, err)
		}
		config := file
		if policies, ok := file["policy"].(map[string]any); ok {
			for _, p := range policies {
				config = p.(map[string]any)["config"].(map[string]any)
			}
		}
		table, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		policy(t, string(table))
	}
	if len(blocks) != 6 {
		t.Errorf("%d examples", len(blocks))
	}
}

// TestEveryKeyIsInTheReadme holds the tables to what the code reads.
func TestEveryKeyIsInTheReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"event_key", "droppable", "droppable_unless", "conflate", "priority", "max_size",
		"error_format", "error_format.http", "error_format.content_type", "error_format.websocket", "error_to", "gap_notice",
		"permanent", "retryable", "retry_after", "admit.default", "admit.message", "admit.rules",
		"framing.header", "framing.range", "framing.client", "framing.upstream", "framing.max_frame_size",
	} {
		if !strings.Contains(string(readme), "| `"+key+"` |") {
			t.Errorf("README.md lacks %s", key)
		}
	}
}
