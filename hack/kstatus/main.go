// kstatus reads objects, one in JSON a line, and answers each with a line: what Flux, Helm 4 and kubectl-like tools conclude
// from it, by the library that they use.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// conclusion is the line of an answer.
type conclusion struct {
	Status  status.Status `json:"status"`
	Message string        `json:"message"`
}

func main() {
	if err := answer(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func answer(objects io.Reader, answers io.Writer) error {
	lines := bufio.NewScanner(objects)
	// etcd takes 1.5 MiB an object.
	lines.Buffer(nil, 2<<20)
	out := json.NewEncoder(answers)
	for lines.Scan() {
		object := &unstructured.Unstructured{}
		// This decoder keeps integers, which the library asks for.
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		result, err := status.Compute(object)
		if err != nil {
			return err
		}
		if err := out.Encode(conclusion{result.Status, result.Message}); err != nil {
			return err
		}
	}
	return lines.Err()
}
