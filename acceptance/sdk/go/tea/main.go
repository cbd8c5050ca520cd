// The smoke story with github.com/alibabacloud-go/darabonba-openapi (header signature), which the generated module
// github.com/alibabacloud-go/iot-20180120 calls exactly so.
package main

import (
	"encoding/json"
	"errors"
	"fmt"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	"github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/alibabacloud-go/tea/tea"

	"updraft/sdk/story"
)

type object = map[string]any

func newClient(id, secret string) *openapi.Client {
	client, err := openapi.NewClient(&utils.Config{
		AccessKeyId:     &id,
		AccessKeySecret: &secret,
		Endpoint:        &story.Endpoint,
		Protocol:        &story.Protocol,
	})
	story.Must(err)
	return client
}

func call(client *openapi.Client, action string, parameters object) (object, error) {
	params := &utils.Params{
		Action:      tea.String(action),
		Version:     tea.String("2018-01-20"),
		Protocol:    tea.String("HTTPS"),
		Pathname:    tea.String("/"),
		Method:      tea.String("POST"),
		AuthType:    tea.String("AK"),
		Style:       tea.String("RPC"),
		ReqBodyType: tea.String("formData"),
		BodyType:    tea.String("json"),
	}
	request := &utils.OpenApiRequest{Query: utils.Query(parameters)}
	answer, err := client.CallApi(params, request, &dara.RuntimeOptions{})
	if err != nil {
		return nil, err
	}
	return answer["body"].(object), nil
}

func ok(client *openapi.Client, action string, parameters object) object {
	body, err := call(client, action, parameters)
	story.Must(err)
	success, _ := body["Success"].(bool)
	code, _ := body["Code"].(string)
	story.Expect(success, code, fmt.Sprint(action, body["ErrorMessage"]))
	return body
}

// at follows names into an answer.
func at(value any, path ...string) any {
	for _, name := range path {
		value = value.(object)[name]
	}
	return value
}

func text(value any, path ...string) string { return at(value, path...).(string) }

func refused(client *openapi.Client) story.Refusal {
	body, err := call(client, "QueryOTAJob", object{"JobId": "unknown"})
	if err == nil {
		return story.Refusal{Code: text(body, "Code"), Message: text(body, "ErrorMessage")}
	}
	var wrapped *tea.SDKError
	if !errors.As(err, &wrapped) {
		story.Must(err)
	}
	return story.Refusal{Code: *wrapped.Code, Message: *wrapped.Message, Thrown: true}
}

func firmware(client *openapi.Client, product string) string {
	var ticket story.Ticket
	data, err := json.Marshal(ok(client, "GenerateOTAUploadURL", object{"FileSuffix": "bin"})["Data"])
	story.Must(err)
	story.Must(json.Unmarshal(data, &ticket))
	story.Upload(ticket)
	return text(ok(client, "CreateOTAFirmware", object{
		"ProductKey":   product,
		"FirmwareName": "包(1)-" + story.Name,
		"FirmwareDesc": story.Description,
		"DestVersion":  "2.0.0",
		"FirmwareUrl":  ticket.FirmwareUrl,
		"NeedToVerify": false,
	}), "Data", "FirmwareId")
}

func batches(client *openapi.Client, seen *story.Seen) {
	var tags []object
	for _, tag := range story.Tags {
		tags = append(tags, object{"Key": tag[0], "Value": tag[1]})
	}
	seen.Static = text(ok(client, "CreateOTAStaticUpgradeJob", object{
		"ProductKey":       seen.Product,
		"FirmwareId":       seen.Firmware,
		"TargetSelection":  "SPECIFIC",
		"TargetDeviceName": []string{seen.Device},
		"Tag":              tags,
	}), "Data", "JobId")
	seen.Dynamic = text(ok(client, "CreateOTADynamicUpgradeJob", object{
		"ProductKey": seen.Product,
		"FirmwareId": seen.Firmware,
		"SrcVersion": []string{"1.0.0"},
	}), "Data", "JobId")
}

func list(client *openapi.Client, seen *story.Seen) {
	page := ok(client, "ListOTAJobByFirmware", object{"FirmwareId": seen.Firmware, "CurrentPage": 1, "PageSize": 10})
	total, err := page["Total"].(json.Number).Int64()
	story.Must(err)
	seen.Total = int(total)
	for _, job := range at(page, "Data", "SimpleOTAJobInfo").([]any) {
		seen.Jobs = append(seen.Jobs, text(job, "JobId"))
		seen.Tags = nil
		if at(job, "Tags") == nil {
			continue
		}
		for _, tag := range at(job, "Tags", "OtaTagDTO").([]any) {
			seen.Tags = append(seen.Tags, [2]string{text(tag, "Key"), text(tag, "Value")})
		}
	}
	described := ok(client, "QueryOTAFirmware", object{"FirmwareId": seen.Firmware})
	seen.Description = text(described, "FirmwareInfo", "FirmwareDesc")
}

func cancel(client *openapi.Client, seen *story.Seen) {
	ok(client, "CancelOTATaskByJob", object{"JobId": seen.Static, "CancelQueuedTask": true})
	ok(client, "CancelOTAStrategyByJob", object{"JobId": seen.Dynamic})
	tasks := ok(client, "ListOTATaskByJob", object{"JobId": seen.Static, "CurrentPage": 1, "PageSize": 10})
	for _, task := range at(tasks, "Data", "SimpleOTATaskInfo").([]any) {
		seen.Tasks = append(seen.Tasks, text(task, "TaskStatus"))
	}
}

func main() {
	client := newClient(story.KeyID, story.KeySecret)
	var seen story.Seen
	seen.Product = text(ok(client, "CreateProduct", object{"ProductName": story.Name, "NodeType": 0}), "ProductKey")
	device := object{"ProductKey": seen.Product, "DeviceName": "device_1"}
	seen.Device = text(ok(client, "RegisterDevice", device), "Data", "DeviceName")
	seen.Firmware = firmware(client, seen.Product)
	batches(client, &seen)
	list(client, &seen)
	cancel(client, &seen)
	seen.Business = refused(client)
	seen.UnknownKey = refused(newClient("nobody", story.KeySecret))
	seen.WrongSecret = refused(newClient(story.KeyID, "wrong"))
	seen.Print()
}
