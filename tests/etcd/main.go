// Command etcd is etcd itself, built from its authors' sources, for the benchmarks on a machine that has no current one.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
