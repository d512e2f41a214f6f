//go:build !wasip1

package sdk

import "os"

func hostLog(_ uint32, line string) { _, _ = os.Stderr.WriteString(line + "\n") }
