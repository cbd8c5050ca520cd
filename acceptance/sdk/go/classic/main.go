// The smoke story with github.com/aliyun/alibaba-cloud-sdk-go (signature in the parameters).
package main

import (
	"errors"

	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/iot"

	"updraft/sdk/story"
)

const region = "cn-shanghai"

func newClient(id, secret string) *iot.Client {
	client, err := iot.NewClientWithAccessKey(region, id, secret)
	story.Must(err)
	return client
}

// at points a request to the server.
func at(request *requests.RpcRequest) {
	request.Scheme = story.Protocol
	request.Domain = story.Endpoint
}

func refused(client *iot.Client) story.Refusal {
	request := iot.CreateQueryOTAJobRequest()
	at(request.RpcRequest)
	request.JobId = "unknown"
	answer, err := client.QueryOTAJob(request)
	if err == nil {
		return story.Refusal{Code: answer.Code, Message: answer.ErrorMessage}
	}
	var wrapped sdkerrors.Error
	if !errors.As(err, &wrapped) {
		story.Must(err)
	}
	// What this SDK concludes of a wrong secret is in the recommendation.
	code := wrapped.ErrorCode()
	if server, ok := wrapped.(*sdkerrors.ServerError); ok && code == "SignatureDoesNotMatch" {
		code = server.Recommend()
	}
	return story.Refusal{Code: code, Message: wrapped.Message(), Thrown: true}
}

func firmware(client *iot.Client, product string) string {
	ticketRequest := iot.CreateGenerateOTAUploadURLRequest()
	at(ticketRequest.RpcRequest)
	ticketRequest.FileSuffix = "bin"
	ticket, err := client.GenerateOTAUploadURL(ticketRequest)
	story.Must(err)
	story.Expect(ticket.Success, ticket.Code, ticket.ErrorMessage)
	data := ticket.Data
	story.Upload(story.Ticket{Host: data.Host, Key: data.Key, Policy: data.Policy,
		OSSAccessKeyId: data.OSSAccessKeyId, Signature: data.Signature})

	request := iot.CreateCreateOTAFirmwareRequest()
	at(request.RpcRequest)
	request.ProductKey = product
	request.FirmwareName = "包(1)-" + story.Name
	request.FirmwareDesc = story.Description
	request.DestVersion = "2.0.0"
	request.FirmwareUrl = data.FirmwareUrl
	request.NeedToVerify = requests.NewBoolean(false)
	made, err := client.CreateOTAFirmware(request)
	story.Must(err)
	story.Expect(made.Success, made.Code, made.ErrorMessage)
	return made.Data.FirmwareId
}

func staticBatch(client *iot.Client, product, device, firmware string) string {
	request := iot.CreateCreateOTAStaticUpgradeJobRequest()
	at(request.RpcRequest)
	request.ProductKey = product
	request.FirmwareId = firmware
	request.TargetSelection = "SPECIFIC"
	request.TargetDeviceName = &[]string{device}
	var tags []iot.CreateOTAStaticUpgradeJobTag
	for _, tag := range story.Tags {
		tags = append(tags, iot.CreateOTAStaticUpgradeJobTag{Key: tag[0], Value: tag[1]})
	}
	request.Tag = &tags
	made, err := client.CreateOTAStaticUpgradeJob(request)
	story.Must(err)
	story.Expect(made.Success, made.Code, made.ErrorMessage)
	return made.Data.JobId
}

func dynamicBatch(client *iot.Client, product, firmware string) string {
	request := iot.CreateCreateOTADynamicUpgradeJobRequest()
	at(request.RpcRequest)
	request.ProductKey = product
	request.FirmwareId = firmware
	request.SrcVersion = &[]string{"1.0.0"}
	made, err := client.CreateOTADynamicUpgradeJob(request)
	story.Must(err)
	story.Expect(made.Success, made.Code, made.ErrorMessage)
	return made.Data.JobId
}

func list(client *iot.Client, seen *story.Seen) {
	request := iot.CreateListOTAJobByFirmwareRequest()
	at(request.RpcRequest)
	request.FirmwareId = seen.Firmware
	request.CurrentPage = requests.NewInteger(1)
	request.PageSize = requests.NewInteger(10)
	page, err := client.ListOTAJobByFirmware(request)
	story.Must(err)
	story.Expect(page.Success, page.Code, page.ErrorMessage)
	seen.Total = page.Total
	for _, job := range page.Data.SimpleOTAJobInfo {
		seen.Jobs = append(seen.Jobs, job.JobId)
		seen.Tags = nil
		for _, tag := range job.Tags.OtaTagDTO {
			seen.Tags = append(seen.Tags, [2]string{tag.Key, tag.Value})
		}
	}
	query := iot.CreateQueryOTAFirmwareRequest()
	at(query.RpcRequest)
	query.FirmwareId = seen.Firmware
	described, err := client.QueryOTAFirmware(query)
	story.Must(err)
	story.Expect(described.Success, described.Code, described.ErrorMessage)
	seen.Description = described.FirmwareInfo.FirmwareDesc
}

func cancel(client *iot.Client, seen *story.Seen) {
	request := iot.CreateCancelOTATaskByJobRequest()
	at(request.RpcRequest)
	request.JobId = seen.Static
	request.CancelQueuedTask = requests.NewBoolean(true)
	cancelled, err := client.CancelOTATaskByJob(request)
	story.Must(err)
	story.Expect(cancelled.Success, cancelled.Code, cancelled.ErrorMessage)
	strategy := iot.CreateCancelOTAStrategyByJobRequest()
	at(strategy.RpcRequest)
	strategy.JobId = seen.Dynamic
	ended, err := client.CancelOTAStrategyByJob(strategy)
	story.Must(err)
	story.Expect(ended.Success, ended.Code, ended.ErrorMessage)
	tasks := iot.CreateListOTATaskByJobRequest()
	at(tasks.RpcRequest)
	tasks.JobId = seen.Static
	tasks.CurrentPage = requests.NewInteger(1)
	tasks.PageSize = requests.NewInteger(10)
	page, err := client.ListOTATaskByJob(tasks)
	story.Must(err)
	story.Expect(page.Success, page.Code, page.ErrorMessage)
	for _, task := range page.Data.SimpleOTATaskInfo {
		seen.Tasks = append(seen.Tasks, task.TaskStatus)
	}
}

func main() {
	client := newClient(story.KeyID, story.KeySecret)
	var seen story.Seen

	product := iot.CreateCreateProductRequest()
	at(product.RpcRequest)
	product.ProductName = story.Name
	product.NodeType = requests.NewInteger(0)
	made, err := client.CreateProduct(product)
	story.Must(err)
	story.Expect(made.Success, made.Code, made.ErrorMessage)
	seen.Product = made.ProductKey

	device := iot.CreateRegisterDeviceRequest()
	at(device.RpcRequest)
	device.ProductKey = seen.Product
	device.DeviceName = "device_1"
	registered, err := client.RegisterDevice(device)
	story.Must(err)
	story.Expect(registered.Success, registered.Code, registered.ErrorMessage)
	seen.Device = registered.Data.DeviceName

	seen.Firmware = firmware(client, seen.Product)
	seen.Static = staticBatch(client, seen.Product, seen.Device, seen.Firmware)
	seen.Dynamic = dynamicBatch(client, seen.Product, seen.Firmware)
	list(client, &seen)
	cancel(client, &seen)
	seen.Business = refused(client)
	seen.UnknownKey = refused(newClient("nobody", story.KeySecret))
	seen.WrongSecret = refused(newClient(story.KeyID, "wrong"))
	seen.Print()
}
