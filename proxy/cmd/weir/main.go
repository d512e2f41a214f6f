// Command weir runs the gateway and talks to a running one.
package main

import (
	"os"
	"runtime/debug"
)

// version is set by the linker from the repository's tags.
var version = "dev"

func main() {
	v := buildVersion()
	os.Exit(execute(os.Args[1:], cli{out: os.Stdout, err: os.Stderr, version: v, start: startGateway(v)}))
}

// buildVersion is version, or what the toolchain recorded of the checkout that
// a plain go build or go install was run in.
func buildVersion() string {
	if version != "dev" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return version
	}
	return info.Main.Version
}
